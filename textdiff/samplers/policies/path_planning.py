"""Path planning: which tokens are kept is decided anew in each step, by confidence (P2, arXiv:2502.03540)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from textdiff.errors import UserError
from textdiff.samplers.policies.policy import LogProbKind, Paced, State


@final
@dataclass(frozen=True)
class PathPlanning(Paced):
    """After each step the likeliest tokens stand, those just drawn and those drawn before; the others are masked.

    The denoiser plans for itself: a token counts by the log-probability with which it was drawn, for filled slots times
    `eta`. What a denoiser says of a slot that it sees is not asked: a masked diffusion is trained on masked slots
    alone. With `eta` = 0 what stands once stands, which is `SampledConfidence`; above 1 more is taken back. As there,
    likely draws are kept and the result is no sample of the posterior: kind `NONE`.

    Args:
        steps: they spread the tokens evenly; None: one more per step.
        eta: at least 0.

    Raises:
        UserError: a number out of range.
    """

    eta: float = 1.0
    kind: ClassVar[LogProbKind] = LogProbKind.NONE

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta < float("inf"):
            raise UserError(f"eta is {self.eta}, expected a number, 0 or more")

    def reveal(self, state: State) -> Tensor:
        return self._kept(state) & state.masked

    def hide(self, state: State) -> Tensor:
        return state.filled & ~self._kept(state)

    def _kept(self, state: State) -> Tensor:
        """The slots that hold a token after this step, one row each: bool `[batch, length]`."""
        assert state.drawn is not None and state.confidence is not None
        drawn = state.log_probs.gather(1, state.drawn[state.masked][:, None])[:, 0].double()
        doubt = (-self.eta * state.confidence).masked_scatter(state.masked, -drawn)
        return state.first_of_all(doubt, state.filled.sum(dim=1) + state.quota(self.steps))
