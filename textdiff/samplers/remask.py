"""The part of a step in which a policy masks filled slots again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from textdiff.samplers.policies.policy import State, UnmaskingPolicy, hidden_by
from textdiff.samplers.state import DenoisingState


@final
@dataclass(frozen=True)
class Remask:
    """Masks again what the policy hides, and keeps the confidence of what stands.

    Args:
        policy: of kind `NONE`; it chooses from what it saw before the step.
        mask: id of the mask token.
    """

    policy: UnmaskingPolicy
    mask: int

    def __call__(self, state: DenoisingState, rows: Tensor, view: State, revealed: Tensor, confidence: Tensor) -> None:
        """Update the state of some rows, in which the slots `revealed [rows, length]` have just been filled.

        Args:
            state: of the batch.
            rows: `[rows]`.
            view: what the policy saw.
            revealed: bool `[rows, length]`.
            confidence: float64 `[revealed.sum()]`, log-probability of each new token, not tempered.
        """
        assert state.confidence is not None
        hidden = hidden_by(self.policy, view)
        state.hide(rows, hidden, self.mask)
        kept = state.confidence[rows].masked_scatter(revealed, confidence).masked_fill(hidden, 0.0)
        state.confidence[rows] = kept
