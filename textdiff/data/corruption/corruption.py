"""Corruption: from a clean text to what the denoiser sees in training, and how much each position counts.

The sum over positions of weight x cross-entropy is a one-sample estimate, in nats, of a negative log-likelihood:
`RandomMasks` is unbiased for the NELBO of the text, `SpanGaps` for -log q of each gap filled in strided order while the
other gaps of the text stand still, `LeftToRight` exact for the twin.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from textdiff.errors import UserError
from textdiff.text import Vocabulary

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Example:
    """One text, or several end to end, as the denoiser meets it; all arrays `[length]`.

    Attributes:
        tokens: the clean ids, null in unused slots.
        canvas: the ids that the network sees.
        observed: evidence, which is never masked.
        weights: how much the cross-entropy of each position counts; 0 where nothing is asked.
        nullable: slots of a gap whose length is still open, where null competes with the text; elsewhere the loss
            leaves null out, as a sampler does once it has drawn the length.
        positions: rotary positions, where they are not the order of the tokens.
    """

    tokens: Ids
    canvas: Ids
    observed: Mask
    weights: NDArray[np.float32]
    nullable: Mask
    positions: Ids | None = None


class Corruption(ABC):
    """A law over examples, given a clean text. It is for causal networks, or for denoisers."""

    causal: bool = False

    @abstractmethod
    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        """Corrupt one text.

        Args:
            tokens: clean ids `[length]`; bos and eos, where present, stay observed.
            vocabulary: special tokens.
            room: how many more positions than `length` the example may take (for null slots).
            rng: the sample's own stream of random numbers.
        """


@final
class RandomMasks(Corruption):
    """Mask exactly k of n tokens, k uniform, weight n / k: the NELBO without a clamp (arXiv:2502.09992, eq. 14)."""

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        observed = _structural(tokens, vocabulary)
        masked, weights = _uniform_masks(np.flatnonzero(~observed), len(tokens), rng)
        return Example(tokens, np.where(masked, vocabulary.mask, tokens), observed, weights, _nowhere(tokens))


class Gaps(Corruption):
    """Corruptions that cut gaps into a text."""

    @abstractmethod
    def places(self, tokens: Ids, vocabulary: Vocabulary, rng: Generator) -> list[tuple[int, int]]:
        """Starts and stops of the gaps, in order, with at least one observed token between two."""


@final
@dataclass(frozen=True)
class SpanGaps(Gaps):
    """Contiguous gaps in clamped evidence, partly filled the way a sampler fills them.

    Gap lengths are log-uniform from `shortest` to `longest`. A share of the gaps is shown when a sampler draws their
    lengths: they have more slots than text, all of them masked, and every slot is asked for, null included. (Once its
    length is known, unused slots are no part of a text.) Of the other gaps a share is partly filled at random, the rest
    in strided order with a random number of steps, where the tokens of the *next* step weigh as in -log q of that
    order. Each gap of a text is at a stage of its own.

    Args:
        most_gaps: gaps in a text, at most.
        longest: slots in a gap, at most.
        shortest: slots in a gap before its edges are moved, at least.
        slots: numbers of slots for a gap of unknown length; one is drawn before the gap is looked at, and where gap or
            room are too small for it the length is known, so that slots say nothing about lengths. Empty: any number
            up to `longest`, which says that many slots go with many tokens.
        share_masked: at most this share of a text's tokens lies in gaps.
        share_null: share of gaps of unknown length.
        share_random: share of gaps that are filled in random rather than strided order.
        share_words: share of gaps whose edges are moved to where words begin.
        steps: numbers of strided steps to train for.
        lookahead: weight, in [0, 1], of masked tokens beyond the next step: the estimate becomes (1 - lookahead) parts
            strided order and lookahead parts "the next token is any masked one".
    """

    most_gaps: int = 4
    longest: int = 64
    share_masked: float = 0.6
    share_null: float = 0.15
    share_random: float = 0.25
    share_words: float = 0.75
    steps: Sequence[int] = (4, 8, 16, 32, 64)
    lookahead: float = 0.3
    shortest: int = 1
    slots: Sequence[int] = ()

    def __post_init__(self) -> None:
        shares = {
            name: getattr(self, name)
            for name in ("share_masked", "share_null", "share_random", "share_words", "lookahead")
        }
        if wrong := [f"{name} is {share}" for name, share in shares.items() if not 0 <= share <= 1]:
            raise UserError(f"{wrong[0]}, expected a share between 0 and 1")
        if not 1 <= self.shortest <= self.longest:
            raise UserError(f"shortest is {self.shortest}, longest {self.longest}: expected 1 <= shortest <= longest")
        if self.most_gaps < 1 or not self.steps or min(*self.steps, *self.slots, 1) < 1:
            raise UserError(
                f"most_gaps {self.most_gaps}, steps {list(self.steps)} and slots {list(self.slots)} must be at least 1"
            )

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        return self.cut(tokens, self.places(tokens, vocabulary, rng), vocabulary, room, rng)

    def cut(
        self, tokens: Ids, places: Sequence[tuple[int, int]], vocabulary: Vocabulary, room: int, rng: Generator
    ) -> Example:
        """The text with gaps at given places (starts and stops, in order), each partly filled as the law says."""
        pieces: list[Example] = []
        end = 0
        for start, stop in places:
            pieces.append(_evidence(tokens[end:start]))
            gap = self._gap(tokens[start:stop], vocabulary, room, rng)
            room -= len(gap.tokens) - (stop - start)
            pieces.append(gap)
            end = stop
        return join([*pieces, _evidence(tokens[end:])])

    def places(self, tokens: Ids, vocabulary: Vocabulary, rng: Generator) -> list[tuple[int, int]]:
        """Starts and stops of the gaps, in order, with at least one observed token between two."""
        content = np.flatnonzero(~_structural(tokens, vocabulary))
        if not len(content):
            return []
        budget = int(self.share_masked * len(content))
        lengths: list[int] = []
        for _ in range(rng.integers(1, self.most_gaps + 1)):
            length = int(np.exp(rng.uniform(np.log(self.shortest), np.log(self.longest + 1))))
            if sum(lengths) + length <= min(budget, len(content) - len(lengths)):
                lengths.append(length)
        lengths = lengths or [1]
        free = len(content) - sum(lengths) - (len(lengths) - 1)
        gaps, shift = [], int(content[0])
        for length, left in zip(lengths, np.sort(rng.integers(0, free + 1, len(lengths))), strict=True):
            gaps.append((shift + int(left), shift + int(left) + length))
            shift += length + 1
        return [self._to_words(*gap, tokens, vocabulary) if rng.random() < self.share_words else gap for gap in gaps]

    @staticmethod
    def _to_words(start: int, stop: int, tokens: Ids, vocabulary: Vocabulary) -> tuple[int, int]:
        """Move both edges right to left to where words begin, if a token is left between them."""
        begins = np.flatnonzero(vocabulary.starts_word.numpy()[tokens[start : stop + 1]]) + start
        if len(begins) < 2:
            return start, stop
        return int(begins[0]), int(begins[-1])

    def _gap(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        n = len(tokens)
        unused = None if vocabulary.null is None else self._unused(n, room, rng)
        if unused is not None:
            tokens = np.concatenate((tokens, np.full(unused, vocabulary.null)))
            blank, nowhere = np.full_like(tokens, vocabulary.mask), _nowhere(tokens)
            return Example(tokens, blank, nowhere, np.ones(len(tokens), dtype=np.float32), ~nowhere)
        if rng.random() < self.share_random:
            masked, weights = _uniform_masks(np.arange(n), n, rng)
        else:
            masked, weights = self._strided(n, rng)
        nowhere = _nowhere(tokens)
        return Example(tokens, np.where(masked, vocabulary.mask, tokens), nowhere, weights, nowhere)

    def _unused(self, n: int, room: int, rng: Generator) -> int | None:
        """Slots beyond the `n` tokens of a gap of unknown length; None: the length is known."""
        most = min(room, self.longest - n)
        if (most <= 0 and not self.slots) or rng.random() >= self.share_null:
            return None
        if not self.slots:
            return int(rng.integers(most + 1))
        unused = int(rng.choice(np.asarray(self.slots))) - n
        return unused if 0 <= unused <= room else None

    def _strided(self, n: int, rng: Generator) -> tuple[Mask, NDArray[np.float32]]:
        steps = min(int(rng.choice(np.asarray(self.steps))), n)
        step = rng.integers(steps)
        phase = np.arange(n) % steps
        masked = phase >= step
        weights = (1 - self.lookahead) * steps * (phase == step) + self.lookahead * n / masked.sum() * masked
        return masked, weights.astype(np.float32)


@final
class LineGaps(Gaps):
    """Whole lines are gaps: of a question, its rationale and its answer, any but the question may be missing.

    Args:
        given: so many lines at the beginning are always known.
        share: of the texts that have such gaps, if one fits; the others have gaps as `gaps` says.
        gaps: how a gap is filled partly, and its greatest length.

    Raises:
        UserError: a number out of range.
    """

    def __init__(self, given: int = 1, share: float = 0.8, gaps: SpanGaps | None = None) -> None:
        if given < 0 or not 0 <= share <= 1:
            raise UserError(f"given is {given} and share {share}: expected 0 or more, and a share between 0 and 1")
        self.given, self.share, self.gaps = given, share, SpanGaps() if gaps is None else gaps

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        return self.gaps.cut(tokens, self.places(tokens, vocabulary, rng), vocabulary, room, rng)

    def places(self, tokens: Ids, vocabulary: Vocabulary, rng: Generator) -> list[tuple[int, int]]:
        """Starts and stops of the gaps, in order: each line that may be missing is, with probability 1/2."""
        breaks = np.flatnonzero(_structural(tokens, vocabulary) | vocabulary.breaks_line.numpy()[tokens])
        edges = np.concatenate(([-1], breaks, [len(tokens)]))
        lines = [(a + 1, b) for a, b in pairwise(edges.tolist()) if b - a > 1]
        lines = [(start, stop) for start, stop in lines[self.given :] if stop - start <= self.gaps.longest]
        if not lines or rng.random() >= self.share:
            return self.gaps.places(tokens, vocabulary, rng)
        chosen = [line for line in lines if rng.random() < 0.5]
        return chosen or [lines[int(rng.integers(len(lines)))]]


@final
class Mixture(Corruption):
    """Gaps in a share of the texts, random masks in the rest.

    Args:
        gaps: the law of gaps, such as `SpanGaps`, `LineGaps` or `SentenceGaps`.
        share: share of texts with gaps; chosen by the held-out log-likelihood of gaps.
        heaviest: weights above this are cut down to it. The estimate is then too low, and its gradient far less noisy
            (as with the clipped schedules of arXiv:2503.09573); infinity leaves it unbiased.
    """

    def __init__(self, gaps: Gaps | None = None, share: float = 0.75, heaviest: float = math.inf) -> None:
        if not 0 <= share <= 1:
            raise UserError(f"the share of texts with gaps is {share}, expected a number between 0 and 1")
        self.gaps, self.share, self.heaviest = gaps if gaps is not None else SpanGaps(), share, heaviest

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        kind: Corruption = self.gaps if rng.random() < self.share else RandomMasks()
        example = kind(tokens, vocabulary, room, rng)
        return replace(example, weights=example.weights.clip(max=self.heaviest))


@final
class LeftToRight(Corruption):
    """Nothing is hidden: the causal twin predicts each token of a piece but the first from those before it."""

    causal = True

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        first = np.arange(len(tokens)) == 0
        return Example(tokens, tokens, first, (~first).astype(np.float32), _nowhere(tokens))


def join(pieces: Sequence[Example]) -> Example:
    """Several examples end to end, as they come."""
    return Example(
        np.concatenate([piece.tokens for piece in pieces]),
        np.concatenate([piece.canvas for piece in pieces]),
        np.concatenate([piece.observed for piece in pieces]),
        np.concatenate([piece.weights for piece in pieces]),
        np.concatenate([piece.nullable for piece in pieces]),
    )


def _nowhere(tokens: Ids) -> Mask:
    return np.zeros(len(tokens), dtype=bool)


def _structural(tokens: Ids, vocabulary: Vocabulary) -> Mask:
    return (tokens == vocabulary.bos) | (tokens == vocabulary.eos)


def _evidence(tokens: Ids) -> Example:
    nowhere = _nowhere(tokens)
    return Example(tokens, tokens, ~nowhere, np.zeros(len(tokens), dtype=np.float32), nowhere)


def _uniform_masks(slots: Ids, length: int, rng: Generator) -> tuple[Mask, NDArray[np.float32]]:
    """Mask k of the n `slots`, k uniform in 1..n, weight n / k each; both results `[length]`."""
    n = len(slots)
    k = int(rng.integers(1, n + 1)) if n else 0
    masked = np.zeros(length, dtype=bool)
    masked[rng.permutation(slots)[:k]] = True
    return masked, (masked * (n / max(k, 1))).astype(np.float32)
