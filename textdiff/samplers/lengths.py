"""How many tokens a gap of unknown length gets: the law of the boundary between tokens and `null`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DOUBT = 0.02
"""Share of a law of lengths that is spread over all of them, at most. More costs sums their answers, less costs stories
nats."""


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

    Under that rule slot i is null just if n <= i: the null marginals *are* the distribution function of n, and
    P(n) = p_n(null) - p_{n-1}(null), with 1 behind the last slot. Marginals that fall from one slot to the next
    contradict the rule. They are made to rise (midway between their running maximum from the left and minimum from the
    right), and as much of P as they fall by, but no more than `DOUBT`, is spread evenly over all n; so a perfect
    network loses nothing. Given that n is at least the minimum.

    Args:
        log_probs: marginals of the slots, `[slots, vocab]`, row-major.
        null: id of the null token.
        gap: number of the gap of each slot, `[batch, length]`, -1 outside.
        minimum: least number of tokens, `[batch, gaps]`, at most the gap's slots.

    Returns:
        Normalised log-probabilities `[batch, gaps, longest gap + 1]` of n = 0, 1, ...; -inf where n is out of bounds.
    """
    unused, slots = (
        by_gap(values, gap, minimum.shape[1]) for values in (log_probs[:, null].double().exp(), (gap >= 0)[gap >= 0])
    )
    n = torch.arange(slots.shape[2] + 1, device=gap.device)
    most = slots.sum(dim=2, keepdim=True)
    below = F.pad(unused, (0, 1)).where(n < most, 1.0)
    allowed = (n >= minimum[..., None]) & (n <= most)
    falls = ((F.pad(below, (1, 0))[..., :-1] - below).clamp(min=0) * allowed).sum(dim=2, keepdim=True)
    rising = (below.cummax(dim=2).values + below.flip(2).cummin(dim=2).values.flip(2)) / 2
    rise = (rising - F.pad(rising, (1, 0))[..., :-1]) * allowed
    total = rise.sum(dim=2, keepdim=True)
    doubt = torch.where(total > 0, falls.clamp(max=DOUBT), 1.0)
    law = (1 - doubt) * rise / total.where(total > 0, 1.0) + doubt * allowed / allowed.sum(dim=2, keepdim=True)
    return law.where(law > 0, 1.0).log().masked_fill(law <= 0, -torch.inf)


def chances_to_end(log_law: Tensor, gap: Tensor) -> Tensor:
    """For each slot, `[batch, length]`, how likely its gap ends before it if it has come so far; 0 outside gaps.

    Args:
        log_law: of the number of tokens, as `length_log_probs` gives it.
        gap: number of the gap of each slot, `[batch, length]`, -1 outside.
    """
    law = log_law.exp()
    chance = (law / law.flip(2).cumsum(dim=2).flip(2)).nan_to_num(nan=0.0)
    row = torch.arange(len(gap), device=gap.device)[:, None]
    return chance[row, gap.clamp(min=0), rank_and_size(gap)[0]] * (gap >= 0)


def count_tokens(tokens: Tensor, null: int, gap: Tensor, gaps: int) -> Tensor:
    """Number of slots of each gap up to its last token that is not `null`, `[batch, gaps]`, from `tokens [slots]`."""
    held = by_gap((tokens != null).long(), gap, gaps)
    return (held * torch.arange(1, held.shape[2] + 1, device=gap.device)).amax(dim=2)
