"""Calibration of what is believed about the length of a gap: on held-out text, and where the truth is exactly known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Generator, Tensor

from textdiff.errors import UserError
from textdiff.evaluation.audit import Item
from textdiff.evaluation.comparison import Interval, mean
from textdiff.inference import ByLength, rank_uniformity
from textdiff.posterior import Denoises, LengthDistribution, Prior, seeded
from textdiff.text import Canvas
from textdiff.worlds import ProbabilisticAutomaton

COVERED = (0.5, 0.9)
"""Credible sets whose coverage is counted: the likeliest lengths that make up so much."""

BINS = 100
"""Cells that the probability integral transform is counted in."""


@dataclass(frozen=True)
class Calibrated:
    """How well one way of guessing lengths does; intervals are 95 % bootstraps over gaps.

    Attributes:
        name: of the way.
        nats: -log p(true length).
        covered: share of gaps whose true length lies in the likeliest lengths that make up 50 and 90 %, less what a
            set is too large by (its edge counts in part).
        uniform: p-value of the hypothesis that the true lengths' ranks are uniform, as those of a calibrated law are.
        off: mean distance, in tokens, of the law's median from the true length.
        kl: KL(truth || law) in nats, on a world.
    """

    name: str
    nats: Interval
    covered: tuple[Interval, ...]
    uniform: float
    off: Interval
    kl: Interval | None = None


@dataclass(frozen=True)
class Lengths:
    """Calibration of several ways of guessing the same lengths."""

    ways: tuple[Calibrated, ...]
    gaps: int
    slots: int

    def __str__(self) -> str:
        """A table in Markdown."""
        heads = [f"nats ({math.log(self.slots):.3f}: no idea)", *(f"in the likeliest {c:.0%}" for c in COVERED)]
        heads += ["uniform ranks, p", "off by, tokens"] + ["KL(truth, law)"] * (self.ways[0].kl is not None)
        rows = [
            f"| {self.gaps} gaps of 1 to {self.slots} tokens | {' | '.join(heads)} |",
            "|---" * (len(heads) + 1) + "|",
        ]
        for way in self.ways:
            cells = [str(way.nats), *map(str, way.covered), f"{way.uniform:.2g}", str(way.off)]
            rows.append(f"| {' | '.join([way.name, *cells, *([str(way.kl)] if way.kl is not None else [])])} |")
        return "\n".join(rows)

    def json(self) -> str:
        """All figures as one JSON object."""
        return json.dumps(asdict(self), indent=1)


@torch.no_grad()
def length_calibration(
    prior: Prior,
    items: Sequence[Item],
    slots: int,
    *,
    target: Prior | None = None,
    truth: ProbabilisticAutomaton | None = None,
    draws: int = 128,
    window: int = 16,
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> Lengths:
    """Hide the lengths of gaps, and see what is believed about them.

    Compared are the law of the boundary to `null` that a denoiser draws from, and `ByLength` by the law of the
    denoiser's own sampler and by the joint of a target, both with uniform prior; on a world also the exact law.

    Args:
        prior: draws fills.
        items: canvases of one row with one gap of exact length, 1 to `slots`, all lengths alike, and the true texts.
        slots: most tokens that a gap may have.
        target: a prior with a joint; None: leave that way out.
        truth: the world that wrote the texts.
        draws: fills of all lengths of a gap together.
        window: see `ByLength`.
        seed: of the draws.
        progress: told how far it is.

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
        ways["evidence beside the gap"] = lambda canvas, dice: own.length_log_probs(prior.given(canvas), draws, dice)
    if target is not None:
        joint = ByLength()
        ways[f"evidence, {target.label}"] = lambda canvas, dice: joint.length_log_probs(
            prior.given(canvas, target=target), draws, dice
        )
    if truth is not None:
        ways["truth"] = lambda canvas, _: truth.length_log_probs(canvas)[0]
    if not items or not ways:
        raise UserError("there is nothing to calibrate: give gaps, and a denoiser, a target or a world")
    laws: dict[str, list[Tensor]] = {name: [] for name in ways}
    for number, (canvas, _) in enumerate(items):
        opened = opened_canvas(canvas, slots).to(prior.device)
        for name, way in ways.items():
            laws[name].append(way(opened, seeded(seed + number)).double())
        if (number + 1) % 10 == 0:
            progress(f"{number + 1} of {len(items)} gaps")
    lengths = [int(canvas.slots.sum()) for canvas, _ in items]
    exact = laws.get("truth")
    return Lengths(tuple(_calibrated(name, found, lengths, exact) for name, found in laws.items()), len(items), slots)


def opened_canvas(canvas: Canvas, slots: int) -> Canvas:
    """The same canvas of one row and one gap, which may now have 1 to `slots` tokens."""
    return canvas.with_open_gaps(slots)


def _calibrated(name: str, laws: list[Tensor], lengths: list[int], truth: list[Tensor] | None) -> Calibrated:
    dice = torch.Generator().manual_seed(0)
    nats, off, ranks, kl = [], [], [], []
    inside: list[list[float]] = [[] for _ in COVERED]
    for i, (law, length) in enumerate(zip(laws, lengths, strict=True)):
        p = law.exp()
        nats.append(-float(law[length]))
        below = float(p[:length].sum()) + float(p[length]) * float(torch.rand(1, generator=dice))
        ranks.append(min(BINS - 1, int(BINS * below)))
        off.append(abs(float((p.cumsum(0) >= 0.5).long().argmax()) - length))
        before = float(p[p > p[length]].sum())  # of the likelier lengths
        for share, found in zip(COVERED, inside, strict=True):
            found.append(min(1.0, max(0.0, (share - before) / max(float(p[length]), 1e-300))))
        if truth is not None:
            exact = truth[i].exp()
            kl.append(float((exact * (truth[i] - law)).nan_to_num(nan=0.0)[exact > 0].sum()))
    return Calibrated(
        name,
        mean(nats),
        tuple(mean(found) for found in inside),
        rank_uniformity(torch.tensor(ranks), BINS - 1),
        mean(off),
        mean(kl) if truth is not None else None,
    )
