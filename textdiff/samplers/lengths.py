"""How many tokens a gap of unknown length gets: the law of the boundary between tokens and `null`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rank_and_size(gap: Tensor) -> tuple[Tensor, Tensor]:
    """Number of each slot within its gap, and number of slots of that gap, from `gap [batch, length]`; 0 outside."""
    inside = gap >= 0
    position = torch.arange(gap.shape[1], device=gap.device).expand_as(gap)
    starts = gap != F.pad(gap, (1, 0), value=-1)[:, :-1]
    start = torch.where(starts, position, 0).cummax(dim=1).values
    size = torch.zeros_like(gap).scatter_add(1, start, inside.long()).gather(1, start)
    return (position - start) * inside, size * inside


def by_gap(values: Tensor, gap: Tensor, gaps: int) -> Tensor:
    """Regroup `values [slots]` of a batch, row-major, by gap: `[batch, gaps, longest gap]`, zero beyond a gap's end."""
    inside = gap >= 0
    rank, size = rank_and_size(gap)
    table = values.new_zeros(len(gap), gaps, int(size.max()))
    return table.index_put((inside.nonzero()[:, 0], gap[inside], rank[inside]), values)


def length_log_probs(log_probs: Tensor, null: int, gap: Tensor, minimum: Tensor) -> Tensor:
    """Law of the number of tokens n in each gap, given that its nulls stand at its end.

    P(n) is proportional to prod_{i<n} (1 - p_i(null)) prod_{i>=n} p_i(null) for n from the minimum to the number of
    slots: the product of the slots' null marginals under that rule. Slots below the minimum hold a token for every n
    and cancel, so a gap of known length has P = 1 whatever the marginals.

    Args:
        log_probs: marginals of the slots, `[slots, vocab]`, row-major.
        null: id of the null token.
        gap: number of the gap of each slot, `[batch, length]`, -1 outside.
        minimum: least number of tokens, `[batch, gaps]`, at most the gap's slots.

    Returns:
        Normalised log-probabilities `[batch, gaps, longest gap + 1]` of n = 0, 1, ...; -inf where n is out of bounds.
    """
    log_token = log_probs.index_fill(1, torch.tensor(null, device=gap.device), -torch.inf).logsumexp(dim=1)
    token, unused, slots = (
        by_gap(values, gap, minimum.shape[1])
        for values in (log_token.double(), log_probs[:, null].double(), torch.ones_like(gap[gap >= 0]))
    )
    n = torch.arange(slots.shape[2] + 1, device=gap.device)
    free = n[:-1] >= minimum[..., None]
    before = F.pad(token.where(free, 0.0).cumsum(dim=2), (1, 0))
    after = F.pad(unused.where(free, 0.0).flip(2).cumsum(dim=2).flip(2), (0, 1))
    allowed = (n >= minimum[..., None]) & (n <= slots.sum(dim=2, keepdim=True))
    return (before + after).masked_fill(~allowed, -torch.inf).log_softmax(dim=2)


def count_tokens(tokens: Tensor, null: int, gap: Tensor, gaps: int) -> Tensor:
    """Number of slots of each gap up to its last token that is not `null`, `[batch, gaps]`, from `tokens [slots]`."""
    held = by_gap((tokens != null).long(), gap, gaps)
    return (held * torch.arange(1, held.shape[2] + 1, device=gap.device)).amax(dim=2)
