"""Fill-in-the-middle: texts rearranged so that both sides of a gap come before its content."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.random import Generator

from textdiff.data.corruption.corruption import Corruption, Example, Gaps, Ids
from textdiff.data.corruption.left_to_right import LeftToRight
from textdiff.data.corruption.span_gaps import SpanGaps
from textdiff.errors import UserError
from textdiff.text import Vocabulary
from textdiff.text.fill_in_middle import layout_evidence

MARKS = 3
"""Positions that each gap adds: the marks where it is in the text, and where its content opens and ends."""


@final
class FillInMiddle(Corruption):
    """A share of the texts rearranged as fill-in-the-middle, the others as they are (arXiv:2207.14255).

    Places and lengths of the gaps are those that a denoiser is trained on (`SpanGaps`). Every token is learned from
    those before it, middles and the evidence alike; the marks of a gap are not scored.

    Args:
        rate: share of texts that are rearranged.
        spm: share of the texts with one gap that are laid out suffix first.
        single: share of the rearranged texts that have one gap only.
        gaps: distribution of the gaps; only places and lengths are used.
        evidence: weight of the tokens outside middles in a rearranged text; 1 learns them as in a plain text.

    Raises:
        UserError: a share or the weight is out of range.
    """

    causal = True

    def __init__(
        self,
        rate: float = 0.9,
        spm: float = 0.5,
        single: float = 0.5,
        gaps: Gaps | None = None,
        evidence: float = 1.0,
    ) -> None:
        for name, share in (("rate", rate), ("spm", spm), ("single", single), ("evidence", evidence)):
            if not 0 <= share <= 1:
                raise UserError(f"{name} is {share}, expected a share between 0 and 1")
        self.rate, self.spm, self.single, self.evidence = rate, spm, single, evidence
        self.gaps = SpanGaps() if gaps is None else gaps

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        if rng.random() >= self.rate or room < MARKS:
            return LeftToRight()(tokens, vocabulary, room, rng)
        places = self.gaps.places(tokens, vocabulary, rng)
        if rng.random() < self.single:
            places = places[(first := int(rng.integers(len(places) or 1))) : first + 1]
        places = places[: room // MARKS]
        edges = [0, *(edge for place in places for edge in place), len(tokens)]
        pieces = [tokens[start:stop].tolist() for start, stop in zip(edges[::2], edges[1::2], strict=True)]
        context = layout_evidence(pieces, vocabulary, len(places) == 1 and rng.random() < self.spm)
        assert vocabulary.eos is not None
        ids, positions = list(context.ids), list(context.positions)
        for (start, stop), place in zip(places, context.starts, strict=True):
            ids += [vocabulary.mask, *tokens[start:stop].tolist(), vocabulary.eos]
            positions += range(place - 1, place + stop - start + 1)
        weights = np.full(len(ids), 1.0, dtype=np.float32)
        weights[: len(context.ids)] = self.evidence
        tokens = np.array(ids)
        given = (tokens == vocabulary.mask) | (tokens == (-1 if vocabulary.bos is None else vocabulary.bos))
        given[0] = True
        weights[given] = 0
        return Example(tokens, tokens, given, weights, np.zeros(len(ids), dtype=bool), np.array(positions))
