"""A policy that is told how much error is acceptable, and takes as few steps as that allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from textdiff.errors import UserError
from textdiff.samplers.confidence import entropy
from textdiff.samplers.dependence import Dependence
from textdiff.samplers.policy import LogProbKind, State, UnmaskingPolicy


@final
@dataclass(frozen=True)
class ErrorBudget(UnmaskingPolicy):
    """Strided order with the smallest stride whose predicted factorisation error fits the budget.

    What shares a step is drawn independently; the loss against drawing it one by one is predicted from the marginals'
    entropies and the `dependence` of positions by distance, as a sum over pairs. The stride is chosen for each row when
    its gaps are still whole, and read off the canvas from then on. Where not even one slot of each gap fits the budget,
    the leftmost slot of the row is filled alone.

    Args:
        nats: acceptable error of a gap: KL(one by one || together) of the same order, nats.
        dependence: of the denoiser, see `calibrate`.

    Raises:
        UserError: a budget below 0.
    """

    nats: float
    dependence: Dependence
    kind: ClassVar[LogProbKind] = LogProbKind.EXACT

    def __post_init__(self) -> None:
        if not 0 <= self.nats < float("inf"):
            raise UserError(f"error budget is {self.nats}, expected a number of nats, 0 or more")

    def reveal(self, state: State) -> Tensor:
        stride, _ = self.plan(state)
        together = state.lowest(state.rank % stride.clamp(min=1)[:, None])
        alone = state.masked & (state.masked.cumsum(dim=1) == 1)
        return torch.where((stride > 0)[:, None], together, alone)

    def plan(self, state: State) -> tuple[Tensor, Tensor]:
        """The stride of each row, 0 for its leftmost slot alone, and the nats of error ahead; both `[batch]`."""
        strides = torch.arange(1, int(state.size.max()) + 1, device=state.rank.device)
        error = self._error(state, len(strides))
        fits = error <= self.nats * (state.masked / state.size.clamp(min=1)).sum(dim=1, keepdim=True)
        step = state.rank[..., None] % strides  # of each slot under each stride
        done = (state.gap >= 0) & ~state.masked
        begun = step.masked_fill(~done[..., None], -1).amax(dim=1) < step.masked_fill(
            ~state.masked[..., None], len(strides)
        ).amin(dim=1)
        possible = torch.where(done.any(dim=1, keepdim=True) & begun.any(dim=1, keepdim=True), begun, fits)
        first = possible.long().argmax(dim=1)
        found = possible.any(dim=1)
        return torch.where(found, strides[first], 0), error.gather(1, first[:, None])[:, 0].masked_fill(~found, 0.0)

    def _error(self, state: State, longest: int) -> Tensor:
        """Predicted error of finishing with strides 1 to `longest`, nats `[batch, longest]`."""
        count = state.masked.sum(dim=1)
        slot = state.masked.long().argsort(dim=1, descending=True, stable=True)[:, : int(count.max())]
        real = state.masked.gather(1, slot)
        entropies = state.spread(entropy(state.log_probs).double()).gather(1, slot).masked_fill(~real, 0.0)
        pairs = self.dependence.information(entropies, slot) / 2  # each pair stands there twice
        rank = state.rank.gather(1, slot).masked_fill(~real, 0)
        ranks_apart = (rank[:, :, None] - rank[:, None]).abs()
        by_apart = pairs.new_zeros(len(pairs), longest).scatter_add_(1, ranks_apart.flatten(1), pairs.flatten(1))
        apart = torch.arange(longest, device=rank.device)
        together = apart[:, None] % (apart + 1) == 0  # ranks so far apart share a step under a stride
        return by_apart @ together.double()
