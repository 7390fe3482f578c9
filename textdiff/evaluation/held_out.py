"""Held-out likelihood of a prior beside its autoregressive twin: gaps, whole texts, and a few fills to read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from textdiff.data import documents, held_out_gaps
from textdiff.data.corpus import Corpus, in_memory
from textdiff.denoisers import nelbo_exact_k
from textdiff.errors import UserError
from textdiff.posterior import Denoises, Prior
from textdiff.text import Canvas, Vocabulary

BATCH = 16
POLICIES = (("strided", 32), ("strided", 16), ("strided", 8), ("strided", 4))
Item = TypeVar("Item")


@dataclass(frozen=True)
class Figure:
    """A mean with its standard error.

    Attributes:
        name: what was measured, on which model.
        value: total over total, in the unit of the table.
        error: its standard error over items.
        bound: True if the value bounds the figure from above.
        nfe: mean forward passes per item; None where that says nothing.
        versus: difference to the twin, paired over items, with its standard error; None for the twin itself.
    """

    name: str
    value: float
    error: float
    bound: bool = False
    nfe: float | None = None
    versus: tuple[float, float] | None = None

    def __str__(self) -> str:
        value = f"{'≤ ' if self.bound else ''}{self.value:.3f} ± {self.error:.3f}"
        nfe = "" if self.nfe is None else f"{self.nfe:.0f}"
        versus = "" if self.versus is None else f"{self.versus[0]:+.3f} ± {self.versus[1]:.3f}"
        return f"| {self.name} | {value} | {nfe} | {versus} |"


@dataclass(frozen=True)
class HeldOut:
    """Held-out figures of a prior and its twin.

    Attributes:
        gaps: -log q of gaps of known length, in nats per character; the twin first.
        texts: negative log-likelihood of whole texts, in bits per character; the twin first.
        about: what was measured on: files, counts, seed.
    """

    gaps: tuple[Figure, ...]
    texts: tuple[Figure, ...]
    about: dict[str, Any]

    def __str__(self) -> str:
        """Two tables in Markdown."""
        head = "| {} | {} | NFE | less the twin |\n|---|---|---|---|"
        gaps = [head.format(f"{self.about['gaps']} gaps of {self.about['gap_length']} tokens", "nats per character")]
        texts = [head.format(f"{self.about['texts']} whole texts", "bits per character")]
        return "\n".join([*gaps, *map(str, self.gaps), "", *texts, *map(str, self.texts)])

    def json(self) -> str:
        """All figures as one JSON object."""
        return json.dumps(asdict(self), indent=2)


def held_out(
    prior: Prior,
    twin: Prior,
    files: Sequence[str],
    *,
    gaps: int = 100,
    gap_length: int = 32,
    policies: Sequence[tuple[str, int | None]] = POLICIES,
    texts: int = 64,
    samples: int = 8,
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> HeldOut:
    """Measure -log q of held-out gaps and the likelihood of whole texts, in units that do not depend on a tokenizer.

    Gaps: the exact -log q(true gap | all text around it) of the prior under each policy, and of the twin given the text
    before the gap alone; the length is given to both. Texts: the NELBO of the prior ("mask exactly k", stratified over
    k) and the exact NLL of the twin; the length of the text is given, so its end is not scored.

    Args:
        prior, twin: a diffusion prior and an autoregressive one with the same tokenizer.
        files: held-out text, see `textdiff.data.sources`.
        gaps, gap_length: number of gaps, and tokens in each.
        policies: names and steps of unmasking policies with exact log-probabilities; None for a policy's own pace.
        texts: number of whole texts.
        samples: of the NELBO, for each text.
        seed: of the gaps' places and of the noise.
        progress: told what is measured next.

    Raises:
        UserError: no text is long enough for a gap, or the two do not share a tokenizer.
    """
    if prior.tokenizer.get_vocab() != twin.tokenizer.get_vocab():
        raise UserError("prior and twin have different tokenizers: give two checkpoints that were trained together")
    if not isinstance(prior, Denoises):
        raise UserError(f"held-out figures compare a diffusion prior with its twin, the prior is {prior.label}")
    longest = prior.context
    assert longest is not None
    corpus = in_memory(documents(files), prior.tokenizer)
    items = held_out_gaps(corpus, prior.vocabulary, gaps, gap_length, longest=longest, seed=seed)
    if not items:
        raise UserError(
            f"no text of {', '.join(files)} is long enough for a gap of {gap_length} tokens with 16 on each side"
        )

    progress("gaps, the twin")
    reference, characters, _ = _gap_nats(twin, items)
    gap_figures = [_figure("autoregressive twin, prefix only", reference, characters, nfe=gap_length)]
    for name, steps in policies:
        law = prior.with_policy(name, steps)
        progress(f"gaps, {law.label}")
        nats, _, nfe = _gap_nats(law, items)
        gap_figures.append(_figure(law.label, nats, characters, nfe=nfe, reference=reference))

    progress("whole texts")
    exact, bound, counts = _text_bits(prior, twin, corpus, longest, texts, samples, seed)
    text_figures = (
        _figure("autoregressive twin, exact NLL", exact, counts),
        _figure(f"diffusion, NELBO of {samples} samples", bound, counts, bound=True, reference=exact),
    )
    names = [str(file).replace("\\", "/").rsplit("/", 1)[-1] for file in files]
    about = {"files": names, "gaps": len(items), "gap_length": gap_length, "texts": len(counts), "seed": seed}
    return HeldOut(tuple(gap_figures), text_figures, about)


def unpicked_fills(prior: Prior, files: Sequence[str], count: int = 10, seed: int = 0) -> Iterator[str]:
    """The first `count` held-out texts, their third sentence replaced by a fill of unknown length, as Markdown.

    Five sentences of each text are shown; fill i has seed `seed + i`. The author's own sentence stands below.
    """
    for number, text in enumerate(islice(documents(files), count)):
        sentences = re.findall(r"\S.*?[.!?][\"”']*(?=\s|$)", " ".join(text.split()))[:5]
        before, after = " ".join(sentences[:2]), " ".join(sentences[3:])
        template = " ".join((_literal(before), "[gap]", _literal(after)))
        fill = prior.infill(template, seed=seed + number)[0].fills[0]
        yield f"{before} **{' '.join(fill.split())}** {after}  \n*The author: {sentences[2]}*"


def _literal(text: str) -> str:
    return text.replace("[gap", "\\[gap")


def _gap_nats(prior: Prior, items: Sequence[tuple[Canvas, Tensor]]) -> tuple[Tensor, Tensor, float]:
    """-log q and characters of each gap, both `[items]`, and the mean number of forward passes."""
    order = sorted(range(len(items)), key=lambda i: items[i][1].shape[1])  # little padding in a batch
    nats, characters, nfe = [], [], []
    for some in _batches([items[i] for i in order]):
        canvas = Canvas.stack([canvas for canvas, _ in some], _pad(prior))
        tokens = pad_sequence([tokens[0] for _, tokens in some], batch_first=True, padding_value=_pad(prior))
        scores, passes = _score(prior, canvas, tokens)
        nats.append(-scores)
        nfe.append(passes)
        characters.append(_characters(tokens, canvas, prior.vocabulary))
    back = torch.tensor(order).argsort()
    return torch.cat(nats)[back], torch.cat(characters)[back], float(torch.cat(nfe).double().mean())


def _text_bits(
    prior: Prior, twin: Prior, corpus: Corpus, longest: int, texts: int, samples: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Exact bits of the twin, a bound on the prior's, and characters, each `[texts]`."""
    assert isinstance(prior, Denoises)
    chosen = [torch.from_numpy(corpus[d]) for d in range(len(corpus)) if len(corpus[d]) <= longest][:texts]
    chosen.sort(key=len)
    generator = torch.Generator().manual_seed(seed)
    exact, bound, counts = [], [], []
    for some in _batches(chosen):
        tokens = pad_sequence(list(some), batch_first=True, padding_value=_pad(prior))
        canvas = _hidden(tokens, prior.vocabulary)
        exact.append(-_score(twin, canvas, tokens)[0])
        observed = canvas.observed.to(prior.device)
        with torch.no_grad():
            nats = nelbo_exact_k(
                prior.network, tokens.to(prior.device), observed, prior.vocabulary.mask, generator, samples
            )
        bound.append(nats.cpu())
        counts.append(_characters(tokens, canvas, prior.vocabulary))
    return torch.cat(exact) / math.log(2), torch.cat(bound) / math.log(2), torch.cat(counts)


@torch.no_grad()
def _score(prior: Prior, canvas: Canvas, tokens: Tensor) -> tuple[Tensor, Tensor]:
    scored = prior.score(canvas.to(prior.device), tokens.to(prior.device))
    assert scored.log_q is not None
    return scored.log_q.cpu(), scored.nfe.cpu()


def _figure(
    name: str,
    amounts: Tensor,
    characters: Tensor,
    *,
    bound: bool = False,
    nfe: float | None = None,
    reference: Tensor | None = None,
) -> Figure:
    """Ratio of totals, with the standard error of a ratio (delta method)."""

    def ratio(values: Tensor) -> tuple[float, float]:
        mean = values.sum() / characters.sum()
        spread = (values - mean * characters).std() / (characters.double().mean() * math.sqrt(len(values)))
        return mean.item(), spread.item()

    versus = None if reference is None else ratio(amounts - reference)
    return Figure(name, *ratio(amounts), bound, nfe, versus)


def _hidden(tokens: Tensor, vocabulary: Vocabulary) -> Canvas:
    """A canvas that hides everything but bos, eos and padding."""
    content = ~vocabulary.forbidden[tokens]
    return Canvas.of(tokens.masked_fill(content, vocabulary.mask), vocabulary.mask)


def _characters(tokens: Tensor, canvas: Canvas, vocabulary: Vocabulary) -> Tensor:
    return (vocabulary.characters[tokens] * canvas.slots).sum(dim=1)


def _pad(prior: Prior) -> int:
    assert prior.vocabulary.pad is not None
    return prior.vocabulary.pad


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
