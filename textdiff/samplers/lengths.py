"""The length of a gap of unknown length: the distribution of the boundary between its tokens and its nulls."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DOUBT = 0.02
"""Most probability that is spread evenly over all lengths. More loses right answers on sums, less loses nats on
stories."""


def rank_and_size(gap: Tensor) -> tuple[Tensor, Tensor]:
    """Index of each slot within its gap, and the size of that gap; `[batch, length]`, as `gap`; 0 outside."""
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
    """Distribution of the number of tokens n in each gap, at least its minimum, given that its nulls stand at its end.

    Under that rule slot i is null exactly if n <= i: the null marginals *are* the distribution function of n, and
    P(n) = p_n(null) - p_{n-1}(null), with 1 behind the last slot. Marginals that fall from one slot to the next
    contradict the rule. They are made to rise (midway between their running maximum from the left and minimum from the
    right), and as much of P as they fall by, but no more than `DOUBT`, is spread evenly over all n; so a perfect
    network loses nothing.

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
    probs = (1 - doubt) * rise / total.where(total > 0, 1.0) + doubt * allowed / allowed.sum(dim=2, keepdim=True)
    return probs.where(probs > 0, 1.0).log().masked_fill(probs <= 0, -torch.inf)


def end_probs(log_probs: Tensor, gap: Tensor) -> Tensor:
    """Probability that a gap ends just before each of its slots, given that it reaches that far: `[batch, length]`.

    Args:
        log_probs: of the number of tokens, as `length_log_probs` gives them.
        gap: number of the gap of each slot, `[batch, length]`, -1 outside, where the result is 0.
    """
    probs = log_probs.exp()
    hazard = (probs / probs.flip(2).cumsum(dim=2).flip(2)).nan_to_num(nan=0.0)
    row = torch.arange(len(gap), device=gap.device)[:, None]
    return hazard[row, gap.clamp(min=0), rank_and_size(gap)[0]] * (gap >= 0)


def count_tokens(tokens: Tensor, null: int, gap: Tensor, gaps: int) -> Tensor:
    """Number of slots of each gap up to its last token that is not `null`, `[batch, gaps]`, from `tokens [slots]`."""
    held = by_gap((tokens != null).long(), gap, gaps)
    return (held * torch.arange(1, held.shape[2] + 1, device=gap.device)).amax(dim=2)
