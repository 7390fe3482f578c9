"""The distribution of one token per step in uniformly random order, exactly."""

from itertools import combinations
from math import lgamma

import torch
from torch import Tensor

from textdiff.denoisers import Denoiser


def any_order_log_prob(denoiser: Denoiser, tokens: Tensor, observed: Tensor, mask_id: int) -> Tensor:
    """Log-probability of the unobserved tokens at one token per step in uniformly random order, nats `[batch]`.

    The n! orders share 2^n canvases: with S a set of revealed slots, `A(S) = sum_{i in S} A(S - i) p(x_i | x_{S - i})`
    and `p = A(all) / n!`.

    Args:
        denoiser: the network.
        tokens: complete texts `[batch, length]`.
        observed: bool `[length]`, the same for all of them.
        mask_id: the mask token.
    """
    slots = (~observed).nonzero()[:, 0].tolist()
    paths = {frozenset[int](): torch.zeros(len(tokens), dtype=torch.float64)}
    for revealed in (frozenset(some) for size in range(len(slots)) for some in combinations(slots, size)):
        masked = [slot for slot in slots if slot not in revealed]
        canvas = tokens.index_fill(1, torch.tensor(masked), mask_id)
        log_probs = denoiser.log_probs(canvas, observed.expand_as(tokens)).gather(-1, tokens[..., None])[..., 0]
        for slot in masked:
            path, key = paths[revealed] + log_probs[:, slot], revealed | {slot}
            paths[key] = paths[key].logaddexp(path) if key in paths else path
    return paths[frozenset(slots)] - lgamma(len(slots) + 1)
