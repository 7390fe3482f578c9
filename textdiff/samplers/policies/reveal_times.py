"""The order of a policy that does not look at what is drawn: known before anything is."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from textdiff.errors import UserError
from textdiff.samplers.policies.policy import LogProbKind, State, UnmaskingPolicy, revealed_by


@lru_cache(maxsize=4096)
def reveal_times(policy: UnmaskingPolicy, size: int) -> Tensor:
    """The step, from 0 on, in which a policy reveals each slot of a single gap, `[size]`.

    Args:
        policy: its order is a function of the gap's size.
        size: tokens in the gap.

    Raises:
        UserError: the order depends on chance or on the denoiser's answers.
    """
    if not policy.blind or policy.kind is not LogProbKind.EXACT:
        raise UserError(f"{type(policy).__name__} has no order that is known in advance: take one such as Strided(8)")
    rank, gap = torch.arange(size)[None], torch.zeros(1, size, dtype=torch.long)
    masked, when = torch.ones(1, size, dtype=torch.bool), torch.full((1, size), -1)
    step = 0
    while masked.any():
        state = State(
            canvas=gap,
            masked=masked,
            gap=gap,
            rank=rank,
            size=torch.full_like(gap, size),
            log_probs=torch.empty(0, 1),
            noise=torch.zeros(1, size, dtype=torch.float64),
            when=when,
        )
        revealed = revealed_by(policy, state)
        when, masked, step = when.masked_fill(revealed, step), masked & ~revealed, step + 1
    return when[0]
