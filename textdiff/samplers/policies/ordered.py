"""Policies that fix the order of the slots in advance, whatever the denoiser says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from textdiff.samplers.policies.policy import LogProbKind, Paced, State, UnmaskingPolicy


@final
@dataclass(frozen=True)
class LeftToRight(UnmaskingPolicy):
    """The leftmost masked slot of each row, one token per step."""

    kind: ClassVar[LogProbKind] = LogProbKind.EXACT
    blind: ClassVar[bool] = True

    def reveal(self, state: State) -> Tensor:
        return state.masked & (state.masked.cumsum(dim=1) == 1)


@final
@dataclass(frozen=True)
class Strided(Paced):
    """Step s fills the slots s, s + T, s + 2T, ... of every gap, so that what shares a step is T apart.

    A gap shorter than T is filled from left to right, one token per step; all gaps of a row go at the same time.
    """

    steps: int = 8
    kind: ClassVar[LogProbKind] = LogProbKind.EXACT
    blind: ClassVar[bool] = True

    def reveal(self, state: State) -> Tensor:
        return state.lowest(state.rank % self.steps)


@final
@dataclass(frozen=True)
class Dilated(Paced):
    """The middle of every run of masked slots, then the middles of what is left: 1 + 2 + 4 + 5 for a gap of 12.

    A gap of n slots takes ceil(log2(n + 1)) steps. With `steps` given, the slots come in the same order, middles first
    and neighbours in that order far apart, spread evenly over so many steps. Kin: dilated scheduling
    (Luxembourg et al. 2025).
    """

    kind: ClassVar[LogProbKind] = LogProbKind.EXACT
    blind: ClassVar[bool] = True

    def reveal(self, state: State) -> Tensor:
        level, turns = bisection(state.rank, state.size)
        if self.steps is None:
            return state.lowest(level)
        return state.first((1 << level) + turns, state.quota(self.steps))


@final
@dataclass(frozen=True)
class RandomOrder(Paced):
    """Slots drawn uniformly at random: the ancestral sampler of masked diffusion, without its empty steps.

    One token per step is the first-hitting sampler (arXiv:2409.02908).
    """

    kind: ClassVar[LogProbKind] = LogProbKind.GIVEN_ORDER
    blind: ClassVar[bool] = True

    def reveal(self, state: State) -> Tensor:
        return state.first(state.noise, state.quota(self.steps))


def bisection(rank: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Where slot `rank` of `size` stands in the tree of repeated halving.

    Returns:
        Its level (0 is the middle slot), and the turns that lead to it as a number whose lowest bit is the first turn:
        counting up visits a level's slots far apart, as in van der Corput's sequence.
    """
    low, high = torch.zeros_like(rank), size.clone()
    level, turns = torch.zeros_like(rank), torch.zeros_like(rank)
    while True:
        middle = (low + high) // 2
        onward = (rank != middle) & (rank < size)
        if not onward.any():
            return level, turns
        right = onward & (rank > middle)
        turns = turns + (right.long() << level)
        low, high = torch.where(right, middle + 1, low), torch.where(onward & ~right, middle, high)
        level = level + onward.long()
