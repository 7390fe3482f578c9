"""A policy that takes as few steps as a given budget of factorisation error allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from textdiff.files.fields import Field, instance, number
from textdiff.samplers.dependence import Dependence
from textdiff.samplers.policies.confidence import entropy
from textdiff.samplers.policies.policy import LogProbKind, State, UnmaskingPolicy


@final
@dataclass(frozen=True)
class ErrorBudget(UnmaskingPolicy):
    """Strided order with the smallest stride whose predicted factorisation error fits the budget.

    Tokens of one step are drawn independently; the loss against drawing them one by one is predicted as a sum over
    pairs, from the entropies of their marginals and the `dependence` of positions by distance. The stride is chosen for
    each row while nothing in it is filled, and inferred from the canvas in later steps. Where not even one slot of each
    gap fits the budget, the leftmost slot of the row is filled alone.

    Args:
        nats: acceptable error of a gap in nats: KL(one by one || in parallel), both in the same order.
        dependence: of the denoiser, see `calibrate`.

    Raises:
        UserError: a budget below 0.
    """

    fields: ClassVar[Mapping[str, Field]] = {
        "nats": number(lambda value: value >= 0, "a number of nats, 0 or more"),
        "dependence": instance(Dependence, "what calibrate() measures"),
    }
    nats: float
    dependence: Dependence
    kind = LogProbKind.EXACT

    def reveal(self, state: State) -> Tensor:
        stride = self._begun(state)
        if (stride == 0).any():
            stride = torch.where(stride == 0, self.plan(state)[0], stride)
        parallel = state.lowest(state.rank % stride.clamp(min=1)[:, None])
        leftmost = state.masked & (state.masked.cumsum(dim=1) == 1)
        return torch.where((stride > 0)[:, None], parallel, leftmost)

    def plan(self, state: State) -> tuple[Tensor, Tensor]:
        """The stride of each row while nothing in it is filled, 0 for its leftmost slot alone; and its predicted error.

        Both `[batch]`; the error is that of all steps of the row, in nats.
        """
        strides = _strides(state)
        error = torch.stack([self._error(state, stride) for stride in strides], dim=1)
        fits = error <= self.nats * (state.masked / state.size.clamp(min=1)).sum(dim=1, keepdim=True)
        first, found = fits.long().argmax(dim=1), fits.any(dim=1)
        chosen = torch.tensor(strides, device=first.device)[first]
        return chosen.where(found, 0), error.gather(1, first[:, None])[:, 0].masked_fill(~found, 0.0)

    @staticmethod
    def _begun(state: State) -> Tensor:
        """The smallest stride `[batch]` whose order leads to the canvas; 0 if nothing is filled, or none does."""
        done, strides = state.filled, torch.tensor(_strides(state), device=state.rank.device)
        step = state.rank[..., None] % strides
        last = step.masked_fill(~done[..., None], -1).amax(dim=1)
        behind = last < step.masked_fill(~state.masked[..., None], int(strides[-1])).amin(dim=1)
        first = strides[behind.long().argmax(dim=1)]
        return first.where(done.any(dim=1) & behind.any(dim=1), 0)

    def _error(self, state: State, stride: int) -> Tensor:
        """Predicted error of filling the rows with a stride, nats `[batch]`."""
        count = state.masked.sum(dim=1)
        slot = state.masked.long().argsort(dim=1, descending=True, stable=True)[:, : int(count.max())]
        real = state.masked.gather(1, slot)
        entropies = state.spread(entropy(state.log_probs).double()).gather(1, slot).masked_fill(~real, 0.0)
        step, rank = (state.rank % stride).gather(1, slot), state.rank.gather(1, slot)
        ranks_apart = (rank[:, :, None] - rank[:, None]).abs()
        between = ranks_apart // stride * torch.minimum(step[:, :, None], step[:, None])  # filled in earlier steps
        share = self.dependence.share((slot[:, :, None] - slot[:, None]).abs(), between)
        pairs = share * torch.minimum(entropies[:, :, None], entropies[:, None])
        return pairs.where(ranks_apart % stride == 0, 0.0).sum(dim=(1, 2)) / 2


def _strides(state: State) -> list[int]:
    """Strides to choose from: all up to 64, above that only the smallest for each number of slots in a step."""
    longest = int(state.size.max())
    return sorted({*range(1, min(longest, 64) + 1), *(-(-longest // several) for several in range(1, longest + 1))})
