"""Path planning: each step decides anew which tokens to keep, by confidence (P2, arXiv:2502.03540)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from textdiff.files.fields import NOT_NEGATIVE, Field
from textdiff.samplers.policies.policy import LogProbKind, Paced, State


@final
@dataclass(frozen=True)
class PathPlanning(Paced):
    """After each step keeps the likeliest tokens, newly drawn ones and earlier ones alike, and masks the others.

    Self-planning: a token's confidence is the log-probability with which it was drawn, times `eta` for earlier ones.
    The denoiser is not asked about filled slots, for a masked diffusion model is trained on masked slots only. With
    `eta` = 0 nothing is masked again, which is `SampledConfidence`; above 1 more is. As there, likely draws are kept,
    so the result is no posterior sample: kind `NONE`.

    Args:
        steps: they spread the tokens evenly; None: one more per step.
        eta: at least 0.

    Raises:
        UserError: a number out of range.
    """

    fields: ClassVar[Mapping[str, Field]] = {
        **Paced.fields,
        "eta": NOT_NEGATIVE,
    }
    eta: float = 1.0
    kind = LogProbKind.NONE

    def reveal(self, state: State) -> Tensor:
        return self._kept(state) & state.masked

    def hide(self, state: State) -> Tensor:
        return state.filled & ~self._kept(state)

    def _kept(self, state: State) -> Tensor:
        """The slots that hold a token after this step: bool `[batch, length]`."""
        assert state.drawn is not None and state.confidence is not None
        drawn = state.log_probs.gather(1, state.drawn[state.masked][:, None])[:, 0].double()
        key = (-self.eta * state.confidence).masked_scatter(state.masked, -drawn)
        return state.first_of_all(key, state.filled.sum(dim=1) + state.quota(self.steps))
