"""Contiguous gaps, at any stage of being filled, or with the whole order in which they are filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.random import Generator

from textdiff.data.corruption.corruption import Example, Gaps, Ids, concatenate, no_position, structural
from textdiff.diffusion import mask_from_random_step, mask_random_subset, random_order
from textdiff.errors import UserError
from textdiff.samplers import UnmaskingPolicy, reveal_times
from textdiff.text import Vocabulary

LATEST = 32
"""The latest step with which a gap begins, where gaps have orders."""


@final
@dataclass(frozen=True)
class SpanGaps(Gaps):
    """Contiguous gaps in clamped evidence, partly filled the way a sampler fills them.

    Gap lengths are log-uniform from `shortest` to `longest`. A share of the gaps is as a sampler sees them when it
    draws their lengths: they have more slots than text, all slots are masked, and all are scored, null included. (Once
    its length is known, unused slots are no part of a text.) Of the other gaps a share is partly filled at random, the
    rest in strided order with a random number of steps, where the tokens of the *next* step weigh as in -log q of that
    order. Each gap of a text is at a stage of its own.

    With `orders`, for order-causal networks, every gap is all masked, and all its tokens are scored in the order of one
    of these policies, or in random order: the sum is -log q of the gap. A gap begins with the first step or later, so
    that the steps of several gaps interleave.

    Args:
        most_gaps: gaps in a text, at most.
        fewest_gaps: gaps in a text that has room for them, at least.
        longest: slots in a gap, at most.
        shortest: slots in a gap before its edges are moved, at least.
        slots: numbers of slots for a gap of unknown length; one is drawn before the gap is looked at, and where gap or
            room are too small for it the length is known, so that slots say nothing about lengths. Empty: any number
            up to `longest`, which lets the number of slots hint at the number of tokens.
        share_masked: at most this share of a text's tokens lies in gaps.
        share_null: share of gaps of unknown length.
        share_random: share of gaps that are filled in random rather than strided order.
        share_words: share of gaps whose edges are moved to where words begin.
        steps: numbers of strided steps to train for.
        lookahead: weight, in [0, 1], of masked tokens beyond the next step: the estimate becomes (1 - lookahead) parts
            strided order and lookahead parts "the next token is any masked one".
        orders: policies whose order is known in advance; one is drawn for each gap. `steps` are then those of a random
            order, beside one token per step, and `lookahead` is of no use.

    Raises:
        UserError: a number out of range.
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
    fewest_gaps: int = 1
    orders: Sequence[UnmaskingPolicy] = ()

    def __post_init__(self) -> None:
        shares = {
            name: getattr(self, name)
            for name in ("share_masked", "share_null", "share_random", "share_words", "lookahead")
        }
        if wrong := [f"{name} is {share}" for name, share in shares.items() if not 0 <= share <= 1]:
            raise UserError(f"{wrong[0]}, expected a share between 0 and 1")
        if not 1 <= self.shortest <= self.longest:
            raise UserError(f"shortest is {self.shortest}, longest {self.longest}: expected 1 <= shortest <= longest")
        if not 1 <= self.fewest_gaps <= self.most_gaps:
            raise UserError(f"fewest_gaps is {self.fewest_gaps}, most_gaps {self.most_gaps}: expected 1 to most_gaps")
        if not self.steps or min(*self.steps, *self.slots, 1) < 1:
            raise UserError(f"steps {list(self.steps)} and slots {list(self.slots)} must be at least 1")
        for policy in self.orders:
            reveal_times(policy, 1)

    @property
    def ordered(self) -> bool:
        return bool(self.orders)

    def __call__(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        return self.cut(tokens, self.places(tokens, vocabulary, rng), vocabulary, room, rng)

    def cut(
        self, tokens: Ids, places: Sequence[tuple[int, int]], vocabulary: Vocabulary, room: int, rng: Generator
    ) -> Example:
        """The text with gaps at given places (starts and stops, in order), each at a random stage of being filled."""
        pieces: list[Example] = []
        end = 0
        for start, stop in places:
            pieces.append(Example.evidence(tokens[end:start]))
            gap = self._gap(tokens[start:stop], vocabulary, room, rng)
            room -= len(gap.tokens) - (stop - start)
            pieces.append(gap)
            end = stop
        return concatenate([*pieces, Example.evidence(tokens[end:])])

    def places(self, tokens: Ids, vocabulary: Vocabulary, rng: Generator) -> list[tuple[int, int]]:
        """Starts and stops of the gaps, in order, with at least one observed token between two."""
        content = np.flatnonzero(~structural(tokens, vocabulary))
        if not len(content):
            return []
        budget = int(self.share_masked * len(content))
        lengths: list[int] = []
        for _ in range(rng.integers(self.fewest_gaps, self.most_gaps + 1)):
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
        """Move the start right and the stop left to where words begin, if a token is left between them."""
        begins = np.flatnonzero(vocabulary.starts_word.numpy()[tokens[start : stop + 1]]) + start
        if len(begins) < 2:
            return start, stop
        return int(begins[0]), int(begins[-1])

    def _gap(self, tokens: Ids, vocabulary: Vocabulary, room: int, rng: Generator) -> Example:
        """A gap of unknown length, all masked, or one of known length that is partly filled."""
        n = len(tokens)
        unused = None if vocabulary.null is None else self._unused(n, room, rng)
        if unused is not None:
            tokens = np.concatenate((tokens, np.full(unused, vocabulary.null)))
            masks, none = np.full_like(tokens, vocabulary.mask), no_position(tokens)
            times = np.zeros_like(tokens) if self.orders else None
            return Example(tokens, masks, none, np.ones(len(tokens), dtype=np.float32), ~none, times=times)
        if self.orders:
            return self._ordered_gap(tokens, vocabulary, rng)
        if rng.random() < self.share_random:
            masked, weights = mask_random_subset(np.ones(n, dtype=bool), rng)
        else:
            steps = min(int(rng.choice(np.asarray(self.steps))), n)
            masked, weights = mask_from_random_step(np.arange(n) % steps, steps, rng, self.lookahead)
        none = no_position(tokens)
        return Example(tokens, np.where(masked, vocabulary.mask, tokens), none, weights, none)

    def _ordered_gap(self, tokens: Ids, vocabulary: Vocabulary, rng: Generator) -> Example:
        """A gap whose tokens are all scored, in the order of a policy or at random."""
        n, none = len(tokens), no_position(tokens)
        if rng.random() < self.share_random:
            times = random_order(n, int(rng.choice([n, *self.steps])), rng)
        else:
            times = reveal_times(self.orders[int(rng.integers(len(self.orders)))], n).numpy()
        begin = int(rng.integers(LATEST + 1)) if rng.random() < 0.5 else 0
        masks, weights = np.full_like(tokens, vocabulary.mask), np.ones(n, dtype=np.float32)
        return Example(tokens, masks, none, weights, none, times=times + begin)

    def _unused(self, n: int, room: int, rng: Generator) -> int | None:
        """Slots beyond the `n` tokens of a gap of unknown length; None: the length is known."""
        most = min(room, self.longest - n)
        if (most <= 0 and not self.slots) or rng.random() >= self.share_null:
            return None
        if not self.slots:
            return int(rng.integers(most + 1))
        unused = int(rng.choice(np.asarray(self.slots))) - n
        return unused if 0 <= unused <= room else None
