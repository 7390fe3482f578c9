"""Policies whose number of tokens per step depends on the denoiser's confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from textdiff.errors import UserError
from textdiff.samplers.policies.confidence import entropy
from textdiff.samplers.policies.policy import LogProbKind, State, UnmaskingPolicy


@final
@dataclass(frozen=True)
class EntropyBounded(UnmaskingPolicy):
    """The slots of least entropy, as many as keep the sum of their entropies less the largest within `gamma` nats.

    That difference bounds the error KL(joint || product) of a step (EB-Sampler, arXiv:2505.24857). With gamma = 0 each
    step reveals one token, together with those that are certain.
    """

    gamma: float = 0.1
    kind = LogProbKind.EXACT

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise UserError(f"gamma is {self.gamma}, expected a number of nats, 0 or more")

    def reveal(self, state: State) -> Tensor:
        entropies = state.spread(entropy(state.log_probs))
        before = entropies.sort(dim=1).values.cumsum(dim=1)[:, :-1]
        return state.first(entropies, 1 + (before <= self.gamma).sum(dim=1))


@final
@dataclass(frozen=True)
class Threshold(UnmaskingPolicy):
    """Every slot with a token likelier than `tau`, and always the most confident (Fast-dLLM, arXiv:2505.22618)."""

    tau: float = 0.9
    kind = LogProbKind.EXACT

    def __post_init__(self) -> None:
        if not 0 < self.tau <= 1:
            raise UserError(f"tau is {self.tau}, expected a probability in (0, 1]")

    def reveal(self, state: State) -> Tensor:
        key = state.spread(-state.log_probs.amax(dim=-1).exp())
        return state.first(key, (key < -self.tau).sum(dim=1).clamp(min=1))
