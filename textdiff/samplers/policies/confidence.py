"""Policies that fill the slots of which the denoiser is most confident, a fixed number per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from textdiff.samplers.policies.policy import LogProbKind, Paced, State


@final
@dataclass(frozen=True)
class Entropy(Paced):
    """The slots whose marginals have the lowest entropy: one per step, or spread evenly over `steps`."""

    kind = LogProbKind.EXACT

    def reveal(self, state: State) -> Tensor:
        return state.first(state.spread(entropy(state.log_probs)), state.quota(self.steps))


@final
@dataclass(frozen=True)
class Margin(Paced):
    """The slots with the largest difference in probability between their two likeliest tokens (arXiv:2502.06768)."""

    kind = LogProbKind.EXACT

    def reveal(self, state: State) -> Tensor:
        best, second = state.log_probs.topk(2, dim=-1).values.exp().unbind(dim=-1)
        return state.first(state.spread(second - best), state.quota(self.steps))


@final
@dataclass(frozen=True)
class TopProbability(Paced):
    """The slots whose likeliest token has the highest probability."""

    kind = LogProbKind.EXACT

    def reveal(self, state: State) -> Tensor:
        return state.first(state.spread(-state.log_probs.amax(dim=-1)), state.quota(self.steps))


@final
@dataclass(frozen=True)
class SampledConfidence(Paced):
    """The slots whose *drawn* token has the highest probability: "low-confidence remasking" (LLaDA, arXiv:2502.09992).

    Likely draws are kept and unlikely ones discarded, so the result is not a posterior sample, even with a perfect
    denoiser and one token per step, and its density is unknown: kind `NONE`.
    """

    kind = LogProbKind.NONE

    def reveal(self, state: State) -> Tensor:
        assert state.drawn is not None
        confidence = state.log_probs.gather(1, state.drawn[state.masked][:, None])[:, 0]
        return state.first(state.spread(-confidence), state.quota(self.steps))


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy in nats of each row of `log_probs [slots, vocab]`."""
    return torch.special.entr(log_probs.exp()).sum(dim=-1)
