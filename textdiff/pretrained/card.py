"""The model card of a prior."""

from __future__ import annotations

from collections.abc import Mapping

from textdiff.models import ForeignConfig
from textdiff.pretrained.network_prior import NetworkPrior, savable_network

CARD = """\
---
library_name: textdiff
pipeline_tag: fill-mask
tags: [textdiff, {tag}]
---

# {name}

A {kind} for text infilling, to be used with textdiff:

```python
import textdiff as td

prior = td.load("{name}")
print(prior.infill("{example}", n=4))
```

| | |
|---|---|
{rows}

The code comes with the library; this folder holds data alone, its weights in safetensors.
"""


def model_card(prior: NetworkPrior, name: str, figures: Mapping[str, str]) -> str:
    """The model card of a prior, in Markdown.

    Args:
        prior: with a network.
        name: by which others load it.
        figures: measured values, by what was measured.

    Raises:
        UserError: the prior has no weights to save.
    """
    network, vocabulary = savable_network(prior), prior.vocabulary
    causal, null = network.config.causal, vocabulary.null is not None
    special = ("pad", "bos", "eos") if causal else ("mask", "pad", "bos", "eos", "null")
    rows = {
        "parameters": f"{network.num_parameters():,}",
        "weights": str(network.dtype).removeprefix("torch."),
        "network": network.config.model_type,
        "vocabulary": f"{vocabulary.size:,} tokens",
        "special tokens": ", ".join(f"{of} {i}" for of in special if (i := getattr(vocabulary, of)) is not None),
        "longest text": f"{prior.context:,} tokens",
        "sampler": f"{prior.label}; log q of its draws is {prior.kind}",
        "gaps of unknown length": "`[gap:4-16]`" if null else "`ByLength()`: there is no token for an unused slot",
    }
    if isinstance(network.config, ForeignConfig):
        shifted = "output i speaks of token i + 1" if network.config.shifted else "output i speaks of token i"
        rows["network"] = f"{network.config.backbone['model_type']}, looking both ways; {shifted}"
    rows |= figures or {"measured": "nothing yet"}
    return CARD.format(
        tag="autoregressive" if causal else "masked-diffusion",
        name=name,
        kind="causal prior" if causal else "masked diffusion prior",
        example=f"Lily lost her red ball. [gap{'' if null else ':8'}] She was happy again.",
        rows="\n".join(f"| {what} | {value} |" for what, value in rows.items()),
    )
