"""Texts whose rotary positions jump, so that a network meets the distances of texts that are longer than its own."""

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
    """Another corruption, whose texts have jumps in their rotary positions.

    Positions of longer texts are drawn at random in training, as in arXiv:2305.16843, but only in a few places: what
    stands side by side mostly stays so.

    Args:
        corruption: what is hidden.
        jumps: in a text, at most; their number is uniform from 0.
        longest: positions that a jump leaves out, at most; their number is uniform from 1.

    Raises:
        UserError: a number below 1.
    """

    def __init__(self, corruption: Corruption, jumps: int = 3, longest: int = 16) -> None:
        if jumps < 1 or longest < 1:
            raise UserError(f"jumps is {jumps} and longest {longest}: expected 1 or more")
        self.corruption, self.jumps, self.longest = corruption, jumps, longest
        self.causal = corruption.causal

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        example = self.corruption(tokens, vocabulary, room, rng)
        positions = np.arange(len(example.tokens)) if example.positions is None else example.positions
        ahead = np.zeros(int(positions.max(initial=0)) + 1, dtype=np.int64)
        jumps = int(rng.integers(self.jumps + 1))
        np.add.at(ahead, rng.integers(len(ahead), size=jumps), rng.integers(1, self.longest + 1, size=jumps))
        return replace(example, positions=positions + ahead.cumsum()[positions])
