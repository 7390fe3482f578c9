"""The Hugging Face Hub: checkpoints are fetched from it as data alone, and priors go there with a model card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import transformers
from transformers import PreTrainedModel

from textdiff.errors import UserError
from textdiff.models import ForeignConfig

if TYPE_CHECKING:
    from textdiff.pretrained.load import NetworkPrior

SETTINGS = ("*.json", "*.txt", "*.model")
"""Configs and tokenizers."""


def is_hub_id(name: str | Path) -> bool:
    """Whether `name` may be `owner/name` on the Hub, and no path: its owner is no folder here."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", name):
        return False
    return not Path(name).parent.exists()


def download(name: str, *, weights: bool = True) -> Path:
    """The folder of a checkpoint of the Hub in the cache, fetched if it is not there: no code, and no pickles.

    Args:
        name: `owner/name`.
        weights: fetch these, too, if they are in safetensors.

    Raises:
        UserError: there is none of that name, or the Hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    wanted = [*SETTINGS, *(["*.safetensors"] if weights else [])]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["*/*"]))
    except Exception as error:  # of the Hub, of the connection, of the disk
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(". ")
        raise UserError(
            f"{name!r} is no folder, and no shipped checkpoint, and the Hub does not give it ({reason}): "
            "check the name and the connection, or give a folder"
        ) from error


def save(
    prior: NetworkPrior, folder: str | Path, *, name: str | None = None, figures: Mapping[str, str] | None = None
) -> Path:
    """Write a prior to a folder that `load` reads: network, tokenizer, and a model card.

    Args:
        prior: with a network.
        folder: to write to; a card that is there stays as it is, unless there are figures for a new one.
        name: `owner/name` on the Hub, or the folder as others will know it; None: the folder's own name.
        figures: what was measured, by what it is, for the card.

    Raises:
        UserError: the prior is an exact world, which has no weights, or its weights are quantized.
    """
    folder, network = Path(folder), _network(prior)
    shown = transformers.logging.is_progress_bar_enabled()
    transformers.logging.disable_progress_bar()
    try:
        network.save_pretrained(folder)
        prior.tokenizer.save_pretrained(folder)
    finally:
        if shown:
            transformers.logging.enable_progress_bar()
    card = folder / "README.md"
    if figures or not card.exists():
        card.write_text(model_card(prior, name or folder.name, figures or {}), encoding="utf-8")
    return folder


def push_to_hub(
    prior: NetworkPrior, name: str, *, private: bool = False, figures: Mapping[str, str] | None = None
) -> str:
    """Put a prior on the Hugging Face Hub, where `load(name)` finds it; returns its address.

    Args:
        prior: with a network.
        name: `owner/name`; made if it is not there.
        private: whether nobody else may see it.
        figures: what was measured, by what it is, for the card.

    Raises:
        UserError: the prior has no weights, or the Hub does not take them.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    with TemporaryDirectory() as folder:
        save(prior, folder, name=name, figures=figures)
        try:
            hub.create_repo(name, private=private, exist_ok=True)
            return str(hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload by textdiff"))
        except Exception as error:  # of the Hub, of the connection, of what one may do there
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(". ")
            raise UserError(
                f"the Hub does not take {name!r} ({reason}): check the name, and that you are logged in there"
            ) from error


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
    """The model card of a prior: what the prior itself tells, and figures that were measured."""
    network, vocabulary = _network(prior), prior.vocabulary
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


def _network(prior: NetworkPrior) -> PreTrainedModel:
    if not isinstance(prior.network, PreTrainedModel):
        raise UserError(f"{prior.label} has no weights to save: give a prior with a network")
    if getattr(prior.network, "is_quantized", False):
        raise UserError(f"{prior.label} is quantized, and its weights are on disk already: load it without, to save it")
    return prior.network
