"""What a corruption is: from a clean text to the input of a network in training, and the weight of each position.

The sum over positions of weight x cross-entropy is a one-sample estimate, in nats, of a negative log-likelihood:
`RandomMasks` is unbiased for the NELBO of the text, `SpanGaps` for -log q of each gap filled in strided order while the
other gaps of the text stand still, `LeftToRight` exact for the autoregressive baseline. Masks and weights of the first
two come from `textdiff.diffusion`, where the objective is written; a corruption says which parts of a text are gaps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from textdiff.text import Vocabulary

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Example:
    """One text, or several end to end, as a network sees it in training; all arrays `[length]`.

    Attributes:
        tokens: the clean ids, null in unused slots.
        canvas: the ids that the network sees.
        observed: evidence, which is never masked.
        weights: weight of the cross-entropy of each position; 0 where no prediction is scored.
        nullable: slots of a gap whose length is still open, where null competes with the text; elsewhere the loss
            leaves null out, as a sampler does once it has drawn the length.
        positions: rotary positions, where they are not the order of the tokens.
        times: reveal times, for order-causal networks: each scored position is predicted from what has an earlier time,
            -1 being that of evidence. None: what is masked is revealed at once, after the rest.
    """

    tokens: Ids
    canvas: Ids
    observed: Mask
    weights: NDArray[np.float32]
    nullable: Mask
    positions: Ids | None = None
    times: Ids | None = None

    @property
    def reveal_times(self) -> Ids:
        """`times`, also where there is none."""
        if self.times is not None:
            return self.times
        return np.where(self.observed, -1, self.canvas != self.tokens).astype(np.int64)

    @classmethod
    def evidence(cls, tokens: Ids) -> Example:
        """A part of a text that is observed, and not scored."""
        none = no_position(tokens)
        return cls(tokens, tokens, ~none, np.zeros(len(tokens), dtype=np.float32), none)


class Corruption(ABC):
    """A distribution over examples, given a clean text.

    Attributes:
        causal: the examples are for causal networks; otherwise for denoisers.
    """

    causal: bool = False

    @property
    def ordered(self) -> bool:
        """Whether the examples hold whole orders of revealing, which only an order-causal network can be trained on."""
        return False

    @abstractmethod
    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        """Corrupt one text.

        Args:
            tokens: clean ids `[length]`; bos and eos, where present, stay observed.
            vocabulary: special tokens.
            room: how many more positions than `length` the example may take (for null slots).
            rng: the sample's own stream of random numbers.
        """


class Gaps(Corruption):
    """Corruptions that cut gaps into a text."""

    @abstractmethod
    def places(self, tokens: Ids, vocabulary: Vocabulary, rng: Generator) -> list[tuple[int, int]]:
        """Starts and stops of the gaps, in order, with at least one observed token between two."""


def concatenate(pieces: Sequence[Example]) -> Example:
    """Several examples end to end; `positions` are left to the caller."""
    timed = any(piece.times is not None for piece in pieces)
    return Example(
        np.concatenate([piece.tokens for piece in pieces]),
        np.concatenate([piece.canvas for piece in pieces]),
        np.concatenate([piece.observed for piece in pieces]),
        np.concatenate([piece.weights for piece in pieces]),
        np.concatenate([piece.nullable for piece in pieces]),
        times=np.concatenate([piece.reveal_times for piece in pieces]) if timed else None,
    )


def no_position(tokens: Ids) -> Mask:
    """False at every token."""
    return np.zeros(len(tokens), dtype=bool)


def structural(tokens: Ids, vocabulary: Vocabulary) -> Mask:
    """Where bos and eos are, which are always observed."""
    return (tokens == vocabulary.bos) | (tokens == vocabulary.eos)
