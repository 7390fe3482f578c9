"""The contract of unmasking policies: what they see, what they decide, and what they claim of their log-probs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import torch
from torch import Tensor

from textdiff.errors import UserError, by_the_user
from textdiff.files.fields import Field, check_fields, whole


class LogProbKind(StrEnum):
    """In what sense the sum of the revealed tokens' log-probabilities is the log-probability of a fill."""

    EXACT = "exact"
    """The order is a function of the canvas: every fill has one trajectory, and the sum is its log-probability."""

    GIVEN_ORDER = "given-order"
    """The order is drawn at random, independently of the tokens: the sum is the log-probability given the order."""

    NONE = "none"
    """The order depends on the drawn tokens, or tokens are drawn anew: the sum is no log-probability."""


@dataclass(frozen=True)
class State:
    """What a policy sees of a batch in one step.

    All tensors are `[batch, length]`, except `log_probs`, which is `[masked.sum(), vocab]`: masked slots in row-major
    order.

    Attributes:
        canvas: token ids, mask where still unknown.
        masked: slots that are still to be filled; at least one in each row.
        gap: number of the gap of each slot, -1 outside gaps and on `null` slots.
        rank: number of the slot within its gap, from 0.
        size: number of tokens of the slot's gap.
        log_probs: the denoiser's log-probs of the masked slots, normalised over the allowed tokens, not tempered; empty
            for a policy that is `blind`.
        noise: float64 uniforms, fresh in each step, for policies that draw their order.
        when: number of the step that filled each slot, from 0; -1 where none did. Every step fills some slot.
        drawn: candidate tokens at the masked slots, for policies of kind `NONE` that are not blind; else None.
        confidence: float64 log-probability that each filled slot's token had when it was drawn, not tempered, 0
            elsewhere; for policies of kind `NONE`, else None.
    """

    canvas: Tensor
    masked: Tensor
    gap: Tensor
    rank: Tensor
    size: Tensor
    log_probs: Tensor
    noise: Tensor
    when: Tensor
    drawn: Tensor | None = None
    confidence: Tensor | None = None

    @property
    def filled(self) -> Tensor:
        """Slots that were filled, and may be masked again: bool `[batch, length]`."""
        return (self.gap >= 0) & ~self.masked

    @property
    def step(self) -> Tensor:
        """Number of steps that each row has taken, `[batch]`."""
        return self.when.amax(dim=1) + 1

    def spread(self, scores: Tensor) -> Tensor:
        """One score per masked slot `[masked.sum()]` -> `[batch, length]`, infinity elsewhere."""
        return scores.new_full(self.masked.shape, torch.inf).masked_scatter(self.masked, scores)

    def lowest(self, key: Tensor) -> Tensor:
        """All masked slots of each row that share its lowest `key [batch, length]`."""
        key = key.masked_fill(~self.masked, _last(key.dtype))
        return self.masked & (key == key.amin(dim=1, keepdim=True))

    def first(self, key: Tensor, count: Tensor) -> Tensor:
        """The `count [batch]` masked slots of each row with the lowest `key [batch, length]`; of ties, the leftmost."""
        return _first(self.masked, key, count)

    def first_filled(self, key: Tensor, count: Tensor) -> Tensor:
        """As `first`, of the filled slots."""
        return _first(self.filled, key, count)

    def first_of_all(self, key: Tensor, count: Tensor) -> Tensor:
        """As `first`, of masked and filled slots alike."""
        return _first(self.gap >= 0, key, count)

    def quota(self, steps: int | None) -> Tensor:
        """Number of tokens for each row to reveal now, `[batch]`, so that all are spread evenly over `steps`.

        A function of the canvas: with k of T steps left, ceil(n k / T) of the n tokens are masked. The first step,
        which knows least, is never larger than another. None: one token per step.
        """
        masked = self.masked.sum(dim=1)
        if steps is None:
            return torch.ones_like(masked)
        total = (self.gap >= 0).sum(dim=1)
        steps_of_row = total.clamp(max=steps)
        to_go = masked * steps_of_row // total
        return masked + (-total * (to_go - 1)) // steps_of_row


class UnmaskingPolicy(ABC):
    """Decides which masked slots are filled next, and which filled ones are masked again.

    Attributes:
        fields: what its settings may be; a dataclass checks them when it is made.
    """

    fields: ClassVar[Mapping[str, Field]] = {}

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: one is not what it may be.
        """
        check_fields(vars(self), self.fields)

    @property
    @abstractmethod
    def kind(self) -> LogProbKind:
        """In what sense the log-probabilities of its fills are known. Most policies: a class attribute."""

    @property
    def blind(self) -> bool:
        """Whether it ignores `log_probs` and `drawn`: the denoiser is then asked about the revealed slots only."""
        return False

    @abstractmethod
    def reveal(self, state: State) -> Tensor:
        """Slots to fill now: bool `[batch, length]`, within `state.masked`, at least one in each row."""

    def hide(self, state: State) -> Tensor:
        """Slots to mask again in the same step, within `state.filled`; asked of policies of kind `NONE` only."""
        return torch.zeros_like(state.masked)


@dataclass(frozen=True)
class Paced(UnmaskingPolicy):
    """A policy with a number of steps, fewer where there are fewer tokens; None: the pace is the policy's own."""

    fields: ClassVar[Mapping[str, Field]] = {"steps": whole(1).optional()}
    steps: int | None = None


def revealed_by(policy: UnmaskingPolicy, state: State) -> Tensor:
    """What a policy reveals, see `UnmaskingPolicy.reveal`.

    Raises:
        UserError: it fails, or does not choose some of the masked slots of each row.
    """
    with by_the_user(f"policy {type(policy).__name__}"):
        revealed = policy.reveal(state)
    _check_slots(policy, "revealed", revealed, state.masked)
    if not revealed.any(dim=1).all():
        raise UserError(f"policy {type(policy).__name__} revealed no slot of a row: expected at least one in each")
    return revealed


def hidden_by(policy: UnmaskingPolicy, state: State) -> Tensor:
    """What a policy masks again, see `UnmaskingPolicy.hide`.

    Raises:
        UserError: it fails, or does not choose filled slots.
    """
    with by_the_user(f"policy {type(policy).__name__}"):
        hidden = policy.hide(state)
    _check_slots(policy, "hid", hidden, state.filled)
    return hidden


def _check_slots(policy: UnmaskingPolicy, verb: str, chosen: Tensor, allowed: Tensor) -> None:
    if not isinstance(chosen, Tensor) or chosen.shape != allowed.shape or chosen.dtype != torch.bool:
        came = f"{chosen.dtype} {list(chosen.shape)}" if isinstance(chosen, Tensor) else type(chosen).__name__
        raise UserError(f"policy {type(policy).__name__} {verb} {came}: expected bool {list(allowed.shape)}")
    if (chosen & ~allowed).any():
        raise UserError(f"policy {type(policy).__name__} {verb} slots that it may not: see UnmaskingPolicy")


def _first(where: Tensor, key: Tensor, count: Tensor) -> Tensor:
    """The `count [batch]` slots of each row within `where` that have the lowest `key`; of ties, the leftmost."""
    order = key.masked_fill(~where, _last(key.dtype)).argsort(dim=1, stable=True)
    return (order.argsort(dim=1) < count[:, None]) & where


def _last(dtype: torch.dtype) -> float | int:
    """The value that sorts after all others of a type."""
    return torch.inf if dtype.is_floating_point else torch.iinfo(dtype).max
