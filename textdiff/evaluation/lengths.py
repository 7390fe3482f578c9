"""Calibration of distributions over the length of a gap, on held-out text and on worlds, where the truth is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import final

import torch
from torch import Generator, Tensor

from textdiff.data import HeldOutGap
from textdiff.errors import UserError
from textdiff.evaluation.statistics import Interval
from textdiff.evaluation.table import Table
from textdiff.inference import ByLength, rank_uniformity
from textdiff.posterior import Denoises, LengthDistribution, Prior, seeded
from textdiff.text import Canvas
from textdiff.worlds import ProbabilisticAutomaton

COVERED = (0.5, 0.9)
"""Probabilities of the credible sets, of the likeliest lengths, whose coverage is measured."""

BINS = 100
"""Bins of the probability integral transform."""


@final
@dataclass(frozen=True)
class LengthCalibration:
    """How well one distribution of lengths is calibrated; intervals are over gaps.

    Attributes:
        name: of the distribution.
        nats: -log p(true length); infinite if the distribution rules one out.
        covered: share of gaps whose true length lies in the 50 % and 90 % sets of likeliest lengths; the least likely
            length of a set counts in part, so that the set holds exactly its probability.
        uniform: p-value of the hypothesis that the ranks of the true lengths are uniform, as calibration implies.
        off: mean distance, in tokens, of the median from the true length.
        kl: KL(truth || distribution) in nats, on a world; infinite if the distribution rules out a possible length.
    """

    name: str
    nats: Interval
    covered: tuple[Interval, ...]
    uniform: float
    off: Interval
    kl: Interval | None = None


@final
@dataclass(frozen=True)
class Lengths:
    """Calibration of several distributions of the same lengths.

    Attributes:
        ways: one for each distribution.
        gaps: number of gaps.
        slots: most tokens in a gap.
    """

    ways: tuple[LengthCalibration, ...]
    gaps: int
    slots: int

    def __str__(self) -> str:
        """A table in Markdown."""
        head = [f"{self.gaps} gaps of 1 to {self.slots} tokens", f"nats ({math.log(self.slots):.3f}: no idea)"]
        head += [*(f"in the likeliest {share:.0%}" for share in COVERED), "uniform ranks, p", "off by, tokens"]
        head += ["KL(truth, law)"] if self.ways[0].kl is not None else []
        rows = []
        for way in self.ways:
            kl = [] if way.kl is None else [way.kl.cell()]
            rows.append([way.name, way.nats.cell(), *map(str, way.covered), f"{way.uniform:.2g}", str(way.off), *kl])
        return Table(head, rows).markdown()

    def json(self) -> str:
        """All figures as one JSON object."""
        return json.dumps(asdict(self), indent=1)


@torch.no_grad()
def length_calibration(
    prior: Prior,
    items: Sequence[HeldOutGap],
    slots: int,
    *,
    target: Prior | None = None,
    truth: ProbabilisticAutomaton | None = None,
    draws: int = 128,
    window: int = 16,
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> Lengths:
    """Compare distributions of the lengths of gaps with the true lengths.

    Compared are the distribution of the first `null` slot that a denoiser samples from, and `ByLength` with the density
    of the denoiser's own sampler and with the joint of a target, both with a uniform prior over lengths; on a world
    also the exact posterior.

    Args:
        prior: draws fills.
        items: texts with one gap of 1 to `slots` tokens, all lengths equally likely.
        slots: most tokens that a gap may have.
        target: a prior with a joint; None: leave that distribution out.
        truth: the world that generated the texts.
        draws: fills of a gap, over all lengths.
        window: see `ByLength`.
        seed: of the draws.
        progress: called from time to time with how many gaps are done.

    Raises:
        UserError: no item, nothing to compare, or a prior that was not trained on the world.
    """
    if truth is not None and truth.tokenizer.get_vocab() != prior.tokenizer.get_vocab():
        raise UserError(f"the prior has another tokenizer than {truth.name}: give one that was trained on its texts")
    ways: dict[str, Callable[[Canvas, Generator], Tensor]] = {}
    if isinstance(prior, Denoises):
        if isinstance(prior, LengthDistribution) and prior.vocabulary.null is not None:
            ways["null marginals"] = lambda canvas, _: prior.length_log_probs(canvas)[0].cpu()
        own = ByLength(window=window)
        ways["evidence beside the gap"] = lambda canvas, rng: own.length_log_probs(prior.given(canvas), draws, rng)
    if target is not None:
        joint = ByLength()
        ways[f"evidence, {target.label}"] = lambda canvas, rng: joint.length_log_probs(
            prior.given(canvas, target=target), draws, rng
        )
    if truth is not None:
        ways["truth"] = lambda canvas, _: truth.length_log_probs(canvas)[0]
    if not items or not ways:
        raise UserError("there is nothing to calibrate: give gaps, and a denoiser, a target or a world")
    log_probs: dict[str, list[Tensor]] = {name: [] for name in ways}
    for number, (canvas, _) in enumerate(items):
        open_canvas = canvas.with_open_gaps(slots).to(prior.device)
        for name, way in ways.items():
            log_probs[name].append(way(open_canvas, seeded(seed + number)).double())
        if (number + 1) % 10 == 0:
            progress(f"{number + 1} of {len(items)} gaps")
    lengths = [int(canvas.slots.sum()) for canvas, _ in items]
    exact = log_probs.get("truth")
    found = tuple(_calibrated(name, some, lengths, exact) for name, some in log_probs.items())
    return Lengths(found, len(items), slots)


def _calibrated(
    name: str, log_probs: list[Tensor], lengths: list[int], truth: list[Tensor] | None
) -> LengthCalibration:
    """Compare log-probabilities of the lengths 0, 1, ... of each gap, `[slots + 1]`, with its true length."""
    generator = torch.Generator().manual_seed(0)
    nats, off, ranks, kl = [], [], [], []
    inside: list[list[float]] = [[] for _ in COVERED]
    for i, (log_p, length) in enumerate(zip(log_probs, lengths, strict=True)):
        p = log_p.exp()
        nats.append(-float(log_p[length]))
        below = float(p[:length].sum()) + float(p[length]) * float(torch.rand(1, generator=generator))
        ranks.append(min(BINS - 1, int(BINS * below)))
        off.append(abs(float((p.cumsum(0) >= 0.5).long().argmax()) - length))
        likelier = float(p[p > p[length]].sum())
        for share, found in zip(COVERED, inside, strict=True):
            found.append(min(1.0, max(0.0, (share - likelier) / max(float(p[length]), 1e-300))))
        if truth is not None:
            exact = truth[i].exp()
            kl.append(float((exact * (truth[i] - log_p))[exact > 0].sum()))
    return LengthCalibration(
        name,
        nats=Interval.mean(nats),
        covered=tuple(Interval.mean(found) for found in inside),
        uniform=rank_uniformity(torch.tensor(ranks), BINS - 1),
        off=Interval.mean(off),
        kl=Interval.mean(kl) if truth is not None else None,
    )
