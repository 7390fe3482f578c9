"""Any-order likelihood: the law of one token per step in uniformly random order, bounded or exact."""

import math

import torch
from torch import Tensor

from textdiff.denoisers.denoiser import Denoiser, token_log_probs
from textdiff.diffusion.process import random_order
from textdiff.errors import UserError

MOST_SUBSET_TOKENS = 12


def any_order_bound(
    denoiser: Denoiser,
    tokens: Tensor,
    observed: Tensor,
    mask_id: int,
    orders: int,
    generator: torch.Generator,
    chunk: int = 2**14,
) -> Tensor:
    """Importance-weighted bound `-log (1/K) sum_k prod_l p(x_l | earlier in order k)`, nats per row `[batch]`.

    Its mean is the NELBO at K = 1, never rises with K, and tends to `-subset_log_prob` (arXiv:2506.01928).
    Costs K forward passes per unobserved token; the observed ones come first in every order.

    Args:
        denoiser: The network.
        tokens: Complete texts `[batch, length]`.
        observed: Bool `[batch, length]`; these positions are never masked and not counted.
        mask_id: The mask token.
        orders: K, the number of random orders per row.
        generator: Source of the orders.
        chunk: Most canvas tokens per forward pass.
    """
    maskable = ~observed
    n = maskable.sum(-1)
    todo = torch.arange(int(n.max()), device=tokens.device) < n[:, None]
    row, step = todo.nonzero(as_tuple=True)
    totals = []
    for _ in range(orders):
        rank = random_order(maskable, generator)[row]
        masked, where = (maskable[row] & keep for keep in (rank >= step[:, None], rank == step[:, None]))
        log_probs = token_log_probs(denoiser, tokens, observed, mask_id, row, masked, where, chunk)
        totals.append(log_probs.new_zeros(todo.shape).masked_scatter(todo, log_probs).sum(-1))
    return math.log(orders) - torch.stack(totals).logsumexp(0)


def subset_log_prob(denoiser: Denoiser, tokens: Tensor, observed: Tensor, mask_id: int, chunk: int = 2**14) -> Tensor:
    """Exact log-prob of the unobserved tokens at one token per step in uniformly random order, nats per row `[batch]`.

    The n! orders share 2^n canvases: with S a set of revealed tokens, `A(S) = sum_{i in S} A(S - i) p(x_i | x_{S - i})`
    and `p = A(all) / n!`. Rows may differ in n. Arguments as for `any_order_bound`.

    Raises:
        UserError: If a row has more than 12 unobserved tokens.
    """
    maskable = ~observed
    n = maskable.sum(-1)
    most = int(n.max())
    if most > MOST_SUBSET_TOKENS:
        raise UserError(
            f"subset_log_prob: {most} unknown tokens need 2^{most} forward passes, at most {MOST_SUBSET_TOKENS} are "
            "taken; use any_order_bound"
        )
    slot = torch.arange(max(most, 1), device=tokens.device)
    bit = 2**slot
    subset = torch.arange(2 ** len(slot), device=tokens.device)
    member = (subset[:, None] & bit) > 0

    asking = subset < 2 ** n[:, None] - 1  # every subset but the full one: [batch, subsets]
    slot_of = (maskable.cumsum(-1) - 1).clamp(min=0)
    masked = (maskable & ~member[:, slot_of]).transpose(0, 1)[asking]
    log_probs = token_log_probs(denoiser, tokens, observed, mask_id, asking.nonzero()[:, 0], masked, masked, chunk)
    asked = asking[..., None] & ~member & (slot < n[:, None, None])
    table = log_probs.new_zeros(asked.shape).masked_scatter(asked, log_probs)

    paths = log_probs.new_zeros(asking.shape)
    for size in range(1, most + 1):
        level = subset[member.sum(-1) == size]
        last = member[level].nonzero()[:, 1].view(-1, size)
        before = level[:, None] - bit[last]
        paths[:, level] = (paths[:, before] + table[:, before, last]).logsumexp(-1)
    return paths.gather(1, 2 ** n[:, None] - 1)[:, 0] - torch.lgamma(n.double() + 1)
