"""Policies that fill the slots which the denoiser is surest of, a fixed number of tokens per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from textdiff.samplers.policies.policy import LogProbKind, Paced, State


@final
@dataclass(frozen=True)
class Entropy(Paced):
    """The slots with the lowest entropy of their marginal; one per step, or all of them evenly over `steps`."""

    kind: ClassVar[LogProbKind] = LogProbKind.EXACT

    def reveal(self, state: State) -> Tensor:
        return state.first(state.spread(entropy(state.log_probs)), state.quota(self.steps))


@final
@dataclass(frozen=True)
class Margin(Paced):
    """The slots whose two likeliest tokens are furthest apart in probability (arXiv:2502.06768)."""

    kind: ClassVar[LogProbKind] = LogProbKind.EXACT

    def reveal(self, state: State) -> Tensor:
        best, second = state.log_probs.topk(2, dim=-1).values.exp().unbind(dim=-1)
        return state.first(state.spread(second - best), state.quota(self.steps))


@final
@dataclass(frozen=True)
class TopProbability(Paced):
    """The slots whose likeliest token is the likeliest."""

    kind: ClassVar[LogProbKind] = LogProbKind.EXACT

    def reveal(self, state: State) -> Tensor:
        return state.first(state.spread(-state.log_probs.amax(dim=-1)), state.quota(self.steps))


@final
@dataclass(frozen=True)
class SampledConfidence(Paced):
    """The slots whose *drawn* token is the likeliest: "low-confidence remasking" (LLaDA, arXiv:2502.09992).

    Likely draws are kept and unlikely ones thrown back, so the result is not a sample of the posterior, even with a
    perfect denoiser and one token per step, and its law has no known density: kind `NONE`.
    """

    kind: ClassVar[LogProbKind] = LogProbKind.NONE

    def reveal(self, state: State) -> Tensor:
        assert state.drawn is not None
        confidence = state.log_probs.gather(1, state.drawn[state.masked][:, None])[:, 0]
        return state.first(state.spread(-confidence), state.quota(self.steps))


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy in nats of each row of `log_probs [slots, vocab]`."""
    return torch.special.entr(log_probs.exp()).sum(dim=-1)
