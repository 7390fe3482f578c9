"""Rotary positions that jump, so that training on short texts covers the distances of longer ones."""

from __future__ import annotations

from dataclasses import replace
from typing import final

import numpy as np
from numpy.random import Generator

from textdiff.data.corruption.corruption import Corruption, Example, Ids
from textdiff.errors import UserError
from textdiff.text import Vocabulary


@final
class PositionJumps(Corruption):
    """Another corruption, with jumps in the rotary positions of its examples.

    As in arXiv:2305.16843 a text takes random positions of a longer one, but it jumps in few places only: most
    neighbours stay at distance 1.

    Args:
        corruption: makes the examples.
        jumps: number of jumps in a text, at most; uniform from 0.
        longest: positions that a jump leaves out, at most; uniform from 1.

    Raises:
        UserError: a number below 1.
    """

    def __init__(self, corruption: Corruption, jumps: int = 3, longest: int = 16) -> None:
        if jumps < 1 or longest < 1:
            raise UserError(f"jumps is {jumps} and longest {longest}: expected 1 or more")
        self.corruption, self.jumps, self.longest = corruption, jumps, longest
        self.causal = corruption.causal

    @property
    def ordered(self) -> bool:
        return self.corruption.ordered

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        example = self.corruption(tokens, vocabulary, room, rng)
        positions = np.arange(len(example.tokens)) if example.positions is None else example.positions
        ahead = np.zeros(int(positions.max(initial=0)) + 1, dtype=np.int64)
        jumps = int(rng.integers(self.jumps + 1))
        np.add.at(ahead, rng.integers(len(ahead), size=jumps), rng.integers(1, self.longest + 1, size=jumps))
        return replace(example, positions=positions + ahead.cumsum()[positions])
