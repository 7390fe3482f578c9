"""Categorical distributions: what may not occur is taken out, and draws are made by inverse CDF in float64."""

import torch
from torch import Tensor

from textdiff.errors import UserError


def without(log_probs: Tensor, never: Tensor) -> Tensor:
    """The distribution of each slot given that none of the tokens `never` occurs; `[slots, vocab]`, `never` broadcasts.

    Raises:
        UserError: no token is left to a slot.
    """
    log_probs = log_probs.masked_fill(never, -torch.inf).log_softmax(dim=-1)
    if log_probs.isnan().any():
        raise UserError(
            "the denoiser leaves a slot no allowed token: its log-probs are NaN, or -inf on all of them; copy the "
            "checkpoint again, or check the denoiser"
        )
    return log_probs


def categorical(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """The category of each row at quantile `uniform [rows]` of `log_probs [rows, categories]` -> ids `[rows]`.

    By inverse CDF in float64: float32 Gumbel noise never reaches the tail and so lowers the temperature unnoticed
    (arXiv:2409.02908). A category without probability is never drawn.
    """
    cdf = log_probs.double().exp().cumsum(dim=-1)
    total = cdf[:, -1]
    quantile = torch.minimum(uniform * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cdf, quantile[:, None], right=True)[:, 0]
