"""Held-out likelihood of a diffusion prior beside its autoregressive (AR) baseline, on gaps and on whole texts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, TypeVar, final

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from textdiff.data import HeldOutGap, documents, held_out_gaps, held_out_texts
from textdiff.data.corpus import in_memory
from textdiff.denoisers import Denoiser, nelbo_exact_k
from textdiff.errors import UserError
from textdiff.evaluation.statistics import Estimate
from textdiff.evaluation.table import Table
from textdiff.posterior import Denoises, Prior, seeded
from textdiff.text import Canvas, Vocabulary, encode

BATCH = 16
POLICIES = (("strided", 32), ("strided", 16), ("strided", 8), ("strided", 4))
Item = TypeVar("Item")


@final
@dataclass(frozen=True)
class HeldOutFigure:
    """One figure of one model on held-out text.

    Attributes:
        name: what was measured, on which model.
        estimate: total over total, in the unit of the table, with its standard error over items.
        bound: True if it is an upper bound on the figure.
        nfe: mean forward passes per item; None if that says nothing.
        versus: difference to the baseline, paired over items; None for the baseline itself.
    """

    name: str
    estimate: Estimate
    bound: bool = False
    nfe: float | None = None
    versus: Estimate | None = None

    @property
    def value(self) -> float:
        """The figure without its error."""
        return self.estimate.value

    def cells(self) -> list[str]:
        """A row of the table."""
        return [
            self.name,
            f"{'≤ ' if self.bound else ''}{self.estimate}",
            "" if self.nfe is None else f"{self.nfe:.0f}",
            "" if self.versus is None else self.versus.signed(),
        ]

    def record(self) -> dict[str, Any]:
        """The figure as JSON keeps it."""
        return {
            "name": self.name,
            "value": self.estimate.value,
            "error": self.estimate.error,
            "bound": self.bound,
            "nfe": self.nfe,
            "versus": None if self.versus is None else [self.versus.value, self.versus.error],
        }


@final
@dataclass(frozen=True)
class HeldOut:
    """Held-out figures of a prior and its AR baseline.

    Attributes:
        gaps: -log q of gaps of known length, in nats per character; the baseline first.
        texts: negative log-likelihood of whole texts, in bits per character; the baseline first.
        about: what was measured on: files, counts, seed.
    """

    gaps: tuple[HeldOutFigure, ...]
    texts: tuple[HeldOutFigure, ...]
    about: dict[str, Any]

    def __str__(self) -> str:
        """Two tables in Markdown."""
        gaps = f"{self.about['gaps']} gaps of {self.about['gap_length']} tokens"
        texts = f"{self.about['texts']} whole texts"
        parts = ((gaps, "nats per character", self.gaps), (texts, "bits per character", self.texts))
        return "\n\n".join(
            Table((what, unit, "NFE", "less the baseline"), [figure.cells() for figure in figures]).markdown()
            for what, unit, figures in parts
        )

    def json(self) -> str:
        """All figures as one JSON object."""
        gaps, texts = ([figure.record() for figure in figures] for figures in (self.gaps, self.texts))
        return json.dumps({"gaps": gaps, "texts": texts, "about": self.about}, indent=2)


def held_out(
    prior: Prior,
    baseline: Prior,
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

    Gaps: the exact -log q(true gap | all text around it) of the prior under each policy, and of the baseline given only
    the text before the gap; both know the length. Texts: the NELBO of the prior ("mask exactly k", stratified over k)
    and the exact NLL of the baseline; the length of the text is given, so its end is not scored.

    Args:
        prior, baseline: a diffusion prior and an autoregressive one with the same tokenizer.
        files: held-out text, see `textdiff.data.sources`; documents that are too long for the models are read in
            passages, see `textdiff.data.passages`.
        gaps, gap_length: number of gaps, and tokens in each.
        policies: names and steps of unmasking policies with exact log-probabilities; None for a policy's own number of
            steps.
        texts: number of whole texts, or of passages, whose first token is given.
        samples: of the NELBO, for each text.
        seed: of the gaps' places and of the noise.
        progress: called with the name of what is measured next.

    Raises:
        UserError: no text is long enough for a gap, or the two do not share a tokenizer.
    """
    if prior.tokenizer.get_vocab() != baseline.tokenizer.get_vocab():
        raise UserError("prior and baseline have different tokenizers: give two checkpoints that were trained together")
    if not isinstance(prior, Denoises):
        raise UserError(f"held-out figures compare a diffusion prior with its baseline, the prior is {prior.label}")
    longest = prior.context
    assert longest is not None
    corpus = in_memory(documents(files), prior.tokenizer)
    items = held_out_gaps(corpus, prior.vocabulary, gaps, gap_length, longest=longest, seed=seed)
    if not items:
        raise UserError(
            f"no text of {', '.join(files)} is long enough for a gap of {gap_length} tokens with 16 on each side"
        )
    gap_figures = _gap_figures(prior, baseline, items, policies, progress)
    progress("whole texts")
    chosen = held_out_texts(corpus, prior.vocabulary, texts, longest=longest)
    text_figures = _text_figures(prior, prior.network, baseline, chosen, samples, seed)
    names = [str(file).replace("\\", "/").rsplit("/", 1)[-1] for file in files]
    about = {"files": names, "gaps": len(items), "gap_length": gap_length, "texts": len(chosen), "seed": seed}
    return HeldOut(gap_figures, text_figures, about)


def unpicked_fills(prior: Prior, files: Sequence[str], count: int = 10, seed: int = 0) -> Iterator[str]:
    """Fills of the third sentence of the first `count` held-out texts that have one, none left out, as Markdown.

    A text that is too long for the prior is read in passages of five sentences. The first five sentences of each text
    are shown; the gap's length is unknown, and fill i has seed `seed + i`. The author's own sentence stands below.
    """
    texts = chain.from_iterable(_in_sentences(text, prior) for text in documents(files))
    for number, sentences in enumerate(islice(texts, count)):
        before, after = " ".join(sentences[:2]), " ".join(sentences[3:])
        template = " ".join((_escaped(before), "[gap]", _escaped(after)))
        fill = prior.infill(template, seed=seed + number)[0].fills[0]
        yield f"{before} **{' '.join(fill.split())}** {after}  \n*The author: {sentences[2]}*"


def _in_sentences(text: str, prior: Prior) -> Iterator[list[str]]:
    """Three to five sentences from the beginning of a text, or from each part of one that is too long for a prior."""
    sentences = re.findall(r"\S.*?[.!?][\"”']*(?=\s|$)", " ".join(text.split()))
    several = len(sentences) > 5 and len(encode(prior.tokenizer, text)) > (prior.context or 512)
    for start in range(0, len(sentences) if several else 1, 5):
        if len(some := sentences[start : start + 5]) >= 3:
            yield some


def _escaped(text: str) -> str:
    return text.replace("[gap", "\\[gap")


def _gap_figures(
    prior: Prior,
    baseline: Prior,
    items: Sequence[HeldOutGap],
    policies: Sequence[tuple[str, int | None]],
    progress: Callable[[str], None],
) -> tuple[HeldOutFigure, ...]:
    """-log q of the gaps in nats per character: of the baseline, and of the prior under each policy."""
    progress("gaps, the baseline")
    reference, characters, _ = _gap_nats(baseline, items)
    length = int(items[0].canvas.slots.sum())
    ratio = Estimate.ratio(reference, characters)
    figures = [HeldOutFigure("autoregressive baseline, prefix only", ratio, nfe=length)]
    for name, steps in policies:
        sampler = prior.with_policy(name, steps)
        progress(f"gaps, {sampler.label}")
        nats, _, nfe = _gap_nats(sampler, items)
        ratio, versus = Estimate.ratio(nats, characters), Estimate.ratio(nats - reference, characters)
        figures.append(HeldOutFigure(sampler.label, ratio, nfe=nfe, versus=versus))
    return tuple(figures)


def _gap_nats(prior: Prior, items: Sequence[HeldOutGap]) -> tuple[Tensor, Tensor, float]:
    """-log q and characters of each gap, both `[items]`, and the mean number of forward passes."""
    order = sorted(range(len(items)), key=lambda i: items[i].tokens.shape[1])  # little padding in a batch
    nats, characters, nfe = [], [], []
    for some in _batches([items[i] for i in order]):
        canvas = Canvas.stack([item.canvas for item in some], _pad(prior))
        tokens = pad_sequence([item.tokens[0] for item in some], batch_first=True, padding_value=_pad(prior))
        scores, passes = _score(prior, canvas, tokens)
        nats.append(-scores)
        nfe.append(passes)
        characters.append(HeldOutGap(canvas, tokens).characters(prior.vocabulary))
    back = torch.tensor(order).argsort()
    return torch.cat(nats)[back], torch.cat(characters)[back], float(torch.cat(nfe).double().mean())


def _text_figures(
    prior: Prior, network: Denoiser, baseline: Prior, texts: Sequence[Tensor], samples: int, seed: int
) -> tuple[HeldOutFigure, ...]:
    """Bits per character of whole texts `[length]`: exact for the baseline, a bound for the prior."""
    generator = seeded(seed)
    exact, bound, counts = [], [], []
    for some in _batches(sorted(texts, key=len)):
        tokens = pad_sequence(list(some), batch_first=True, padding_value=_pad(prior))
        canvas = _masked(tokens, prior.vocabulary)
        exact.append(-_score(baseline, canvas, tokens)[0])
        observed = canvas.observed.to(prior.device)
        with torch.no_grad():
            nats = nelbo_exact_k(network, tokens.to(prior.device), observed, prior.vocabulary.mask, generator, samples)
        bound.append(nats.cpu())
        counts.append(HeldOutGap(canvas, tokens).characters(prior.vocabulary))
    characters = torch.cat(counts)
    bits, most = torch.cat(exact) / math.log(2), torch.cat(bound) / math.log(2)
    ratio, versus = Estimate.ratio(most, characters), Estimate.ratio(most - bits, characters)
    return (
        HeldOutFigure("autoregressive baseline, exact NLL", Estimate.ratio(bits, characters)),
        HeldOutFigure(f"diffusion, NELBO of {samples} samples", ratio, bound=True, versus=versus),
    )


@torch.no_grad()
def _score(prior: Prior, canvas: Canvas, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Log q and forward passes of complete texts, both `[batch]`."""
    scored = prior.score(canvas.to(prior.device), tokens.to(prior.device))
    assert scored.log_q is not None
    return scored.log_q.cpu(), scored.nfe.cpu()


def _masked(tokens: Tensor, vocabulary: Vocabulary) -> Canvas:
    """A canvas that masks everything but bos, eos and padding, and the first token of a passage, which has no bos."""
    content = ~vocabulary.forbidden[tokens]
    content[:, 0] = False
    return Canvas.of(tokens.masked_fill(content, vocabulary.mask), vocabulary.mask)


def _pad(prior: Prior) -> int:
    assert prior.vocabulary.pad is not None
    return prior.vocabulary.pad


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
