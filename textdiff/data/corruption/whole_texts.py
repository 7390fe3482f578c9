"""Whole texts as gaps."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.random import Generator

from textdiff.data.corruption.corruption import Example, Gaps, Ids, structural
from textdiff.data.corruption.span_gaps import SpanGaps
from textdiff.samplers import LeftToRight
from textdiff.text import Vocabulary


@final
class WholeTexts(Gaps):
    """All of a text is one gap, except bos and eos: by default from left to right, as an autoregressive network reads.

    Args:
        gaps: how the gap is filled; None: from left to right, for order-causal networks.
    """

    def __init__(self, gaps: SpanGaps | None = None) -> None:
        left_to_right = SpanGaps(orders=(LeftToRight(),), share_random=0.0, share_null=0.0)
        self.gaps = left_to_right if gaps is None else gaps

    @property
    def ordered(self) -> bool:
        return self.gaps.ordered

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        return self.gaps.cut(tokens, self.places(tokens, vocabulary, rng), vocabulary, room, rng)

    def places(self, tokens: Ids, vocabulary: Vocabulary, rng: Generator) -> list[tuple[int, int]]:
        """The one gap, if there is anything to fill."""
        content = np.flatnonzero(~structural(tokens, vocabulary))
        return [(int(content[0]), int(content[-1]) + 1)] if len(content) else []
