"""Gaps that hold whole sentences, as the gaps that people leave mostly do."""

from __future__ import annotations

from itertools import pairwise
from typing import final

import numpy as np
from numpy.random import Generator

from textdiff.data.corruption.corruption import Example, Gaps, Ids
from textdiff.data.corruption.span_gaps import SpanGaps
from textdiff.errors import UserError
from textdiff.text import Vocabulary


@final
class SentenceGaps(Gaps):
    """Runs of whole sentences are gaps.

    A sentence ends with a token that `Vocabulary.ends_sentence` before one that begins with a blank or a new line, or
    where the text ends; so it does not end between a full stop and a closing quote that is a token of its own. From
    left to right, each sentence that is not yet in a gap begins one with probability 2/5, of one, two or three
    sentences with probability 3/5, 3/10 and 1/10, as far as they fit.

    Args:
        longest: tokens in such a gap, at most.
        share: share of texts with such gaps, if one fits; the others have gaps as `gaps` says.
        gaps: how a gap is partly filled, and its slots.

    Raises:
        UserError: a number out of range.
    """

    def __init__(self, longest: int = 40, share: float = 0.5, gaps: SpanGaps | None = None) -> None:
        if longest < 1 or not 0 <= share <= 1:
            raise UserError(f"longest is {longest} and share {share}: expected 1 or more, and a share between 0 and 1")
        self.longest, self.share, self.gaps = longest, share, SpanGaps() if gaps is None else gaps

    @property
    def ordered(self) -> bool:
        return self.gaps.ordered

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        return self.gaps.cut(tokens, self.places(tokens, vocabulary, rng), vocabulary, room, rng)

    def places(self, tokens: Ids, vocabulary: Vocabulary, rng: Generator) -> list[tuple[int, int]]:
        """Starts and stops of the gaps, in order, with at least one observed token between two."""
        if rng.random() >= self.share:
            return self.gaps.places(tokens, vocabulary, rng)
        chosen: list[tuple[int, int]] = []
        after = 0  # the next gap may begin here: after the last one, and a token between the two
        for start, stop in (found := sentences(tokens, vocabulary)):
            if start < after or stop - start > self.longest or rng.random() >= 0.4:
                continue
            most = int(rng.choice(3, p=(0.6, 0.3, 0.1))) + 1
            ends = [end for begin, end in found if begin >= start][:most]
            chosen.append((start, max(end for end in ends if end - start <= self.longest)))
            after = chosen[-1][1] + 1
        return chosen or self.gaps.places(tokens, vocabulary, rng)


def sentences(tokens: Ids, vocabulary: Vocabulary) -> list[tuple[int, int]]:
    """Starts and stops of the sentences of a text, bos and eos left out."""
    special = [token for token in (vocabulary.bos, vocabulary.eos) if token is not None]
    content = np.flatnonzero(~np.isin(tokens, special))
    if not len(content):
        return []
    begins = (vocabulary.starts_word | vocabulary.breaks_line).numpy()[tokens]
    ends = np.flatnonzero(vocabulary.ends_sentence.numpy()[tokens[:-1]] & begins[1:]) + 1
    first, last = int(content[0]), int(content[-1]) + 1
    edges = [first, *(int(end) for end in ends if first < end < last), last]
    return list(pairwise(edges))
