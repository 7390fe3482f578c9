"""The measurements of a comparison: likelihood, text, speed, and the distance to an exact posterior."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import final

import torch
from torchmetrics.functional.text import chrf_score

from textdiff.data import HeldOutGap
from textdiff.evaluation.candidate import Candidate
from textdiff.evaluation.comparison import Cell
from textdiff.evaluation.memory import Peak, peak
from textdiff.evaluation.overlap import distinct, rouge_l, self_bleu, sentence_bleu, sentence_gleu
from textdiff.inference import ByLength, Resampled
from textdiff.inference.by_length import GRID
from textdiff.posterior import Conditioning, Posterior, WeightedSamples
from textdiff.samplers import LogProbKind
from textdiff.worlds import ProbabilisticAutomaton


@final
@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        longest: tokens in a gap of unknown length, at most.
        fills: drawn at once.
        timed: gaps on which speed and variety are measured.
        seed: of the fills; gap i draws from `seed + i`.
    """

    longest: int
    fills: int
    timed: int
    seed: int


MEASURES: dict[str, tuple[str, ...]] = {
    "given": (),
    "open": ("longest",),
    "text": ("longest", "fills", "timed", "seed"),
    "speed": ("fills", "timed", "seed"),
    "truth": ("fills", "seed"),
}
"""What is measured, and the fields of `Effort` on which it depends."""


def measured(
    measure: str,
    candidate: Candidate,
    items: Sequence[HeldOutGap],
    effort: Effort,
    truth: ProbabilisticAutomaton | None,
) -> Cell:
    """One of `MEASURES` of a candidate; "truth" needs the world that generated the items."""
    functions: dict[str, Callable[[], Cell]] = {
        "given": lambda: _given(candidate, items),
        "open": lambda: _open(candidate, items, effort.longest),
        "text": lambda: _text(candidate, items, effort),
        "speed": lambda: _speed(candidate, items[: effort.timed + 1], effort),
        "truth": lambda: _truth(candidate, items, effort, truth),
    }
    return functions[measure]()


def _given(candidate: Candidate, items: Sequence[HeldOutGap]) -> Cell:
    """-log q of the true texts, the lengths of the gaps given; empty where it is not exact."""
    return Cell({"nats": [_nats(candidate, item) for item in items]} if candidate.has_exact_likelihood else {})


def _open(candidate: Candidate, items: Sequence[HeldOutGap], longest: int) -> Cell:
    """-log q of the true texts and lengths; empty also without null, and so without a distribution of lengths."""
    vocabulary = candidate.prior.vocabulary
    if not candidate.has_exact_likelihood or vocabulary.null is None:
        return Cell({})
    return _given(candidate, [item.with_open_gaps(longest, vocabulary) for item in items])


def _truth(
    candidate: Candidate, items: Sequence[HeldOutGap], effort: Effort, truth: ProbabilisticAutomaton | None
) -> Cell:
    """Estimates of KL(q || p) from equally weighted draws of q; empty if they have no density."""
    assert truth is not None
    kl: list[float] = []
    exact = True
    for number, (canvas, _) in enumerate(items):
        found = candidate.posterior(canvas).sample(effort.fills, candidate.method, generator=effort.seed + number)
        if found.log_q is None or not isinstance(candidate.method, Conditioning | Resampled | None):
            return Cell({})
        alive = found.log_weights > -math.inf
        log_p = truth.score(canvas.repeat(effort.fills), found.tokens).log_q
        assert log_p is not None
        kl.append(float((found.log_q - log_p).mean()) if alive.all() else math.inf)  # without weights nothing is drawn
        exact &= found.kind is LogProbKind.EXACT
    return Cell({"kl": kl}, {"bound": float(not exact)})


@torch.no_grad()
def _nats(candidate: Candidate, item: HeldOutGap) -> float:
    prior = candidate.prior
    prior.check_canvas(item.canvas)
    log_q = prior.score(item.canvas.to(prior.device), item.tokens.to(prior.device)).log_q
    assert log_q is not None
    return -float(log_q)


def _text(candidate: Candidate, items: Sequence[HeldOutGap], effort: Effort) -> Cell:
    """One fill of each gap and its scores; the variety of several fills of the first gaps."""
    values: dict[str, list[float]] = {"exact": [], "bleu": [], "gleu": [], "chrf": [], "rouge_l": [], "empty": []}
    texts: dict[str, list[str]] = {"fills": [], "truths": [], "written": []}
    variety: list[float] = []
    for number, item in enumerate(items):
        canvas, true = item.with_open_gaps(effort.longest, candidate.prior.vocabulary)
        posterior, seed = candidate.posterior(canvas), effort.seed + number
        several = number < effort.timed
        found, drawn = _fills(candidate, posterior, effort.fills if several else 1, seed)
        if several:
            variety.append(self_bleu([" ".join(_in_a_row(some.fills).split()) for some in drawn]))
        own = found.resample(1, generator=seed)[0].fills if found.alive else ("",)
        fill, truth = _in_a_row(own), _in_a_row(posterior.decode(true)[0].fills)
        for name, text in (("fills", fill), ("truths", truth), ("written", "".join(own))):
            texts[name].append(text)
        values["exact"].append(float(fill == truth))
        values["empty"].append(float(not fill))
        for name, score in (("bleu", sentence_bleu), ("gleu", sentence_gleu), ("rouge_l", rouge_l)):
            values[name].append(score(fill, truth))
        values["chrf"].append(float(torch.as_tensor(chrf_score([fill], [[truth]]))))
    values["self_bleu"] = [score for score in variety if score == score]
    return Cell(values, {"distinct_2": distinct(texts["fills"])}, texts)


def _fills(candidate: Candidate, posterior: Posterior, n: int, seed: int) -> tuple[WeightedSamples, WeightedSamples]:
    """The samples of a candidate, and `n` fills of them.

    A prior without null has no distribution of lengths; its samples are weighted by the evidence at each length.
    """
    if candidate.prior.vocabulary.null is not None or candidate.method is not None:
        found = posterior.sample(n, candidate.method, generator=seed)
        return found, found
    found = posterior.sample(max(n, GRID), ByLength(), generator=seed)
    return found, found.resample(n, generator=seed) if found.alive else found


def _in_a_row(fills: Sequence[str]) -> str:
    """The fills of a text's gaps one after another."""
    return " ".join(fill.strip() for fill in fills).strip()


def _speed(candidate: Candidate, items: Sequence[HeldOutGap], effort: Effort) -> Cell:
    """Median seconds for a fill alone and among several, forward passes, and memory; the first gap warms up."""
    figures: dict[str, float] = {}
    for name, n in (("one", 1), ("many", effort.fills)):
        seconds, passes = list[float](), list[float]()
        for number, (canvas, _) in enumerate(items):
            posterior = candidate.posterior(canvas)
            with peak(candidate.prior.device) if number == 0 else nullcontext(Peak()) as most:
                start = time.perf_counter()
                found = posterior.sample(n, candidate.method, generator=effort.seed)
                found.tokens.cpu()  # waits for the device
                seconds.append((time.perf_counter() - start) / n)
            passes.append(float(found.nfe.double().mean()))
            if most.bytes is not None:
                figures[f"megabytes_{name}"] = most.bytes / 1e6
        figures[f"seconds_{name}"] = statistics.median(seconds[1:] or seconds)
        figures["nfe"] = statistics.mean(passes)
    return Cell({}, figures)
