"""The exact posterior of gaps, as a world knows it, and how far a sampler is from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import final

import torch
from torch import Generator, Tensor

from textdiff.data import HeldOutGap
from textdiff.inference import rank_uniformity
from textdiff.posterior import Prior, seeded
from textdiff.text import Canvas
from textdiff.worlds import ProbabilisticAutomaton

ENUMERABLE = 4096
"""Most fills of a gap that are enumerated."""

KEPT = 16
"""Exact posterior draws that are kept of each item, for KL(p || q) and the log-evidence."""


@final
@dataclass(frozen=True)
class WorldPosteriors:
    """The exact posterior p of each item, as a world gives it.

    Attributes:
        world: the truth.
        items: gaps and true texts.
        log_p: log p of the true fills, `[items]`.
        mean_log_p: E_p log p, `[items]`, from draws.
        draws: exact posterior draws of each item, `[KEPT, length]`.
    """

    world: ProbabilisticAutomaton
    items: Sequence[HeldOutGap]
    log_p: Tensor
    mean_log_p: Tensor
    draws: tuple[Tensor, ...]

    @classmethod
    def of(cls, world: ProbabilisticAutomaton, items: Sequence[HeldOutGap], draws: int = 256) -> WorldPosteriors:
        """Score the true fills and draw from the posterior of each item."""
        log_p = torch.cat([log_q_of(world, canvas, tokens) for canvas, tokens in items])
        generator = seeded(1)
        drawn = [world.sample(canvas.repeat(draws), generator) for canvas, _ in items]
        mean = torch.stack([_on_cpu(some.log_q).mean() for some in drawn])
        return cls(world, items, log_p, mean, tuple(some.tokens[:KEPT] for some in drawn))

    def log_weights(self, prior: Prior, generator: Generator) -> Tensor:
        """log p - log q of the exact draws under the sampler q of a prior, `[items, KEPT]`."""
        rows = []
        for (canvas, _), drawn in zip(self.items, self.draws, strict=True):
            many = canvas.repeat(len(drawn))
            log_q = log_q_of(prior, many, drawn, generator)
            rows.append(log_q_of(self.world, many, drawn) - log_q)
        return torch.stack(rows)

    @property
    def enumerable(self) -> bool:
        """Whether every item has few enough fills to enumerate them."""
        kinds = len(self.world.token.unique())
        return all(kinds ** int(canvas.slots.sum()) <= ENUMERABLE for canvas, _ in self.items)

    def divergences(self, prior: Prior) -> tuple[Tensor, Tensor, Tensor]:
        """KL(q || p), KL(p || q) and total variation as sums over all fills, each `[items]`."""
        kinds, figures = self.world.token.unique().tolist(), []
        for canvas, _ in self.items:
            fills = torch.tensor(list(product(kinds, repeat=int(canvas.slots.sum()))))
            tokens = canvas.tokens.repeat(len(fills), 1)
            tokens[:, canvas.slots[0]] = fills
            many = canvas.repeat(len(fills))
            q, p = log_q_of(prior, many, tokens), log_q_of(self.world, many, tokens)
            qp = (q.exp() * (q - p)).where(q > -math.inf, 0.0).sum()
            pq = (p.exp() * (p - q)).where(p > -math.inf, 0.0).sum()
            figures.append(torch.stack((qp, pq, (p.exp() - q.exp()).abs().sum() / 2)))
        qp, pq, tv = torch.stack(figures).unbind(1)
        return qp, pq, tv

    def calibration(self, tokens: Sequence[Tensor], log_p: Tensor, generator: Generator) -> float:
        """Simulation-based calibration: least p-value of three statistics of the fill, times three (Bonferroni).

        The statistics are log p, the mean token id and the number of distinct tokens; ties are broken at random.

        Args:
            tokens: draws of a sampler for each item, `[draws, length]`.
            log_p: log p of these draws, `[items, draws]`.
            generator: breaks ties.
        """
        draws = log_p.shape[1]
        ranks: list[list[float]] = [[], [], []]
        for i, (canvas, text) in enumerate(self.items):
            drawn, true = _statistics(tokens[i], canvas), _statistics(text, canvas)
            pairs = [(log_p[i], self.log_p[i]), (drawn[0], true[0][0]), (drawn[1], true[1][0])]
            for which, (values, truth) in enumerate(pairs):
                noise = torch.rand(draws + 1, generator=generator, dtype=torch.float64)
                near = (values - truth).abs() < 1e-9
                below = (~near & (values < truth)) | (near & (noise[1:] < noise[0]))
                ranks[which].append(int(below.sum()))
        bins = max(2, min(10, len(self.items) // 10))
        return 3 * min(rank_uniformity(torch.tensor(some), draws, bins) for some in ranks)


def log_q_of(prior: Prior, canvas: Canvas, tokens: Tensor, generator: Generator | None = None) -> Tensor:
    """Log-probability that a sampler with a density gives to complete texts, `[batch]`, on the CPU."""
    scored = prior.score(canvas.to(prior.device), tokens.to(prior.device), generator=generator)
    return _on_cpu(scored.log_q)


def _statistics(rows: Tensor, canvas: Canvas) -> tuple[Tensor, Tensor]:
    """Mean token id and number of distinct tokens in the gaps of each row, `[rows]`."""
    fill = rows[:, canvas.slots[0]]
    kinds = torch.tensor([len(set(row)) for row in fill.tolist()])
    return fill.double().mean(dim=1), kinds.double()


def _on_cpu(log_q: Tensor | None) -> Tensor:
    assert log_q is not None
    return log_q.detach().cpu()
