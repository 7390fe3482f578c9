"""Policies whose number of tokens per step depends on the denoiser's confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from textdiff.files.fields import NOT_NEGATIVE, Field, number
from textdiff.samplers.policies.confidence import entropy
from textdiff.samplers.policies.policy import LogProbKind, State, UnmaskingPolicy


@final
@dataclass(frozen=True)
class EntropyBounded(UnmaskingPolicy):
    """The slots of least entropy, as many as keep the sum of their entropies less the largest within `gamma` nats.

    That difference bounds the error KL(joint || product) of a step (EB-Sampler, arXiv:2505.24857). With gamma = 0 each
    step reveals one token, together with those that are certain.
    """

    fields: ClassVar[Mapping[str, Field]] = {"gamma": NOT_NEGATIVE}
    gamma: float = 0.1
    kind = LogProbKind.EXACT

    def reveal(self, state: State) -> Tensor:
        entropies = state.spread(entropy(state.log_probs))
        before = entropies.sort(dim=1).values.cumsum(dim=1)[:, :-1]
        return state.first(entropies, 1 + (before <= self.gamma).sum(dim=1))


@final
@dataclass(frozen=True)
class Threshold(UnmaskingPolicy):
    """Every slot with a token likelier than `tau`, and always the most confident (Fast-dLLM, arXiv:2505.22618)."""

    fields: ClassVar[Mapping[str, Field]] = {"tau": number(lambda value: 0 < value <= 1, "a probability in (0, 1]")}
    tau: float = 0.9
    kind = LogProbKind.EXACT

    def reveal(self, state: State) -> Tensor:
        key = state.spread(-state.log_probs.amax(dim=-1).exp())
        return state.first(key, (key < -self.tau).sum(dim=1).clamp(min=1))
