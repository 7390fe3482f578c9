"""Plain text for causal networks."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.random import Generator

from textdiff.data.corruption.corruption import Corruption, Example, Ids, no_position
from textdiff.text import Vocabulary


@final
class LeftToRight(Corruption):
    """Leave the text as it is, for next-token prediction: every token but the first is scored, with weight 1."""

    causal = True

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        first = np.arange(len(tokens)) == 0
        return Example(tokens, tokens, first, (~first).astype(np.float32), no_position(tokens))
