"""Tokens masked at random, anywhere in a text."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.random import Generator

from textdiff.data.corruption.corruption import Corruption, Example, Ids, no_position, structural
from textdiff.diffusion import mask_random_subset
from textdiff.text import Vocabulary


@final
class RandomMasks(Corruption):
    """Mask exactly k of n tokens, k uniform, weight n / k: the NELBO without a clamp (arXiv:2502.09992, eq. 14)."""

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        observed = structural(tokens, vocabulary)
        masked, weights = mask_random_subset(~observed, rng)
        return Example(tokens, np.where(masked, vocabulary.mask, tokens), observed, weights, no_position(tokens))
