"""Gaps in some texts, random masks or another corruption in the others."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import final

from numpy.random import Generator

from textdiff.data.corruption.corruption import Corruption, Example, Gaps, Ids
from textdiff.data.corruption.random_masks import RandomMasks
from textdiff.data.corruption.span_gaps import SpanGaps
from textdiff.errors import UserError
from textdiff.text import Vocabulary


@final
class Mixture(Corruption):
    """Gaps in a share of the texts, random masks or another corruption in the rest.

    Args:
        gaps: distribution of the gaps, such as `SpanGaps`, `LineGaps` or `SentenceGaps`.
        share: share of texts with gaps; chosen by the held-out log-likelihood of gaps.
        heaviest: weights above this are cut down to it. The estimate is then too low, and its gradient far less noisy
            (as with the clipped schedules of arXiv:2503.09573); infinity leaves it unbiased.
        rest: what is done to the other texts; None: `RandomMasks`.

    Raises:
        UserError: the share is out of range.
    """

    def __init__(
        self,
        gaps: Gaps | None = None,
        share: float = 0.75,
        heaviest: float = math.inf,
        rest: Corruption | None = None,
    ) -> None:
        if not 0 <= share <= 1:
            raise UserError(f"the share of texts with gaps is {share}, expected a number between 0 and 1")
        self.gaps, self.share, self.heaviest = gaps if gaps is not None else SpanGaps(), share, heaviest
        self.rest = rest if rest is not None else RandomMasks()

    @property
    def ordered(self) -> bool:
        return self.gaps.ordered or self.rest.ordered

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        kind: Corruption = self.gaps if rng.random() < self.share else self.rest
        example = kind(tokens, vocabulary, room, rng)
        return replace(example, weights=example.weights.clip(max=self.heaviest))
