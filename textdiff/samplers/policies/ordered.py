"""Policies whose order of the slots does not depend on what the denoiser says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from textdiff.samplers.policies.policy import LogProbKind, Paced, State, UnmaskingPolicy


@final
@dataclass(frozen=True)
class LeftToRight(UnmaskingPolicy):
    """The leftmost masked slot of each row, one token per step."""

    kind = LogProbKind.EXACT
    blind = True

    def reveal(self, state: State) -> Tensor:
        return state.masked & (state.masked.cumsum(dim=1) == 1)


@final
@dataclass(frozen=True)
class Strided(Paced):
    """Step s of T fills the slots s, s + T, s + 2T, ... of every gap, so that tokens drawn in parallel are T apart.

    A gap shorter than T is filled from left to right, one token per step. All gaps of a row are filled in parallel.
    """

    steps: int = 8
    kind = LogProbKind.EXACT
    blind = True

    def reveal(self, state: State) -> Tensor:
        return state.lowest(state.rank % self.steps)


@final
@dataclass(frozen=True)
class Dilated(Paced):
    """The middle slot of every run of masked slots, by repeated bisection: 1 + 2 + 4 + 5 tokens for a gap of 12.

    A gap of n slots takes ceil(log2(n + 1)) steps. With `steps`, the same order is spread evenly over that many steps,
    and slots of one level are visited far apart. Similar to dilated scheduling (Luxembourg et al. 2025).
    """

    kind = LogProbKind.EXACT
    blind = True

    def reveal(self, state: State) -> Tensor:
        level, turns = bisection(state.rank, state.size)
        if self.steps is None:
            return state.lowest(level)
        return state.first((1 << level) + turns, state.quota(self.steps))


@final
@dataclass(frozen=True)
class RandomOrder(Paced):
    """Slots chosen uniformly at random: the ancestral sampler of masked diffusion without its empty steps.

    One token per step is the first-hitting sampler (arXiv:2409.02908).
    """

    kind = LogProbKind.GIVEN_ORDER
    blind = True

    def reveal(self, state: State) -> Tensor:
        return state.first(state.noise, state.quota(self.steps))


def bisection(rank: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Position of slot `rank` of `size` in the tree of repeated bisection.

    Returns:
        Its level (0 is the middle slot), and the left and right turns on the way to it, as a number whose lowest bit is
        the first turn: counting up visits a level's slots far apart from each other, as van der Corput's sequence does.
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
