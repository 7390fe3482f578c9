"""Gaps that hold whole lines, such as the rationale or the answer to a question."""

from __future__ import annotations

from itertools import pairwise
from typing import final

import numpy as np
from numpy.random import Generator

from textdiff.data.corruption.corruption import Example, Gaps, Ids, structural
from textdiff.data.corruption.span_gaps import SpanGaps
from textdiff.errors import UserError
from textdiff.text import Vocabulary


@final
class LineGaps(Gaps):
    """Whole lines are gaps: of a question, its rationale and its answer, any but the question may be missing.

    Args:
        given: so many lines at the beginning are always observed.
        share: share of texts with such gaps, if one fits; the others have gaps as `gaps` says.
        gaps: how a gap is partly filled, and its greatest length.

    Raises:
        UserError: a number out of range.
    """

    def __init__(self, given: int = 1, share: float = 0.8, gaps: SpanGaps | None = None) -> None:
        if given < 0 or not 0 <= share <= 1:
            raise UserError(f"given is {given} and share {share}: expected 0 or more, and a share between 0 and 1")
        self.given, self.share, self.gaps = given, share, SpanGaps() if gaps is None else gaps

    @property
    def ordered(self) -> bool:
        return self.gaps.ordered

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        return self.gaps.cut(tokens, self.places(tokens, vocabulary, rng), vocabulary, room, rng)

    def places(self, tokens: Ids, vocabulary: Vocabulary, rng: Generator) -> list[tuple[int, int]]:
        """Starts and stops of the gaps, in order: each line that may be missing is, with probability 1/2."""
        breaks = np.flatnonzero(structural(tokens, vocabulary) | vocabulary.breaks_line.numpy()[tokens])
        edges = np.concatenate(([-1], breaks, [len(tokens)]))
        lines = [(a + 1, b) for a, b in pairwise(edges.tolist()) if b - a > 1]
        lines = [(start, stop) for start, stop in lines[self.given :] if stop - start <= self.gaps.longest]
        if not lines or rng.random() >= self.share:
            return self.gaps.places(tokens, vocabulary, rng)
        chosen = [line for line in lines if rng.random() < 0.5]
        return chosen or [lines[int(rng.integers(len(lines)))]]
