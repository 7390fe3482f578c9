"""Objectives of amortized inference, as functions of log-probabilities alone.

All take tables `[evidence, draws]` in nats: a row for each piece of evidence, a column for each of its fills, so that
the unknown log-normaliser of an evidence is never shared with another. `log_q` is the learner's and carries the
gradient; `log_target` is the unnormalised log-density. The loss is in nats or squared nats, the mean over rows.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

FLOOR = 50.0
"""The target is floored at this many nats below the best fill of its evidence, so that impossible fills are finite."""

REACH = 20.0
"""Default threshold of the Huber loss, in nats: beyond it the square becomes linear and gradients stop growing."""


def vargrad(log_q: Tensor, log_target: Tensor, reach: float = REACH) -> Tensor:
    """Half the variance of log q - log target over the fills of each evidence (arXiv:2010.10436).

    It is 0 if and only if q is proportional to the target on these fills, whatever distribution they were drawn from.
    If they were drawn from q, its gradient is an unbiased estimate of that of KL(q || posterior), as that of
    `reverse_kl`; no log-normaliser has to be learnt. A fill that has probability 0 under q is left out: no gradient
    could bring it back.
    """
    gap, drawable = log_q - floored(log_target), log_q.detach() > -math.inf
    known = gap.detach().where(drawable, 0.0).sum(dim=1, keepdim=True) / drawable.sum(dim=1, keepdim=True).clamp(min=1)
    residual = (gap - known).where(drawable, 0.0)  # the mean's own gradient cancels in the sum over fills
    return _square(residual, reach).sum(dim=1).mean() / (gap.shape[1] - 1)


def trajectory_balance(log_q: Tensor, log_target: Tensor, log_z: Tensor, reach: float = REACH) -> Tensor:
    """Half the mean square of log Z + log q - log target (arXiv:2201.13259), with a learnt log Z `[evidence]`."""
    residual = (log_z[:, None] + log_q - floored(log_target)).where(log_q > -math.inf, 0.0)
    return _square(residual, reach).mean()


def reverse_kl(log_q: Tensor, log_target: Tensor) -> Tensor:
    """A loss whose gradient is an unbiased estimate of that of KL(q || posterior), if the fills were drawn from q.

    REINFORCE with the mean of the other fills as the baseline (leave-one-out, arXiv:1402.0030 and 2402.14740).
    """
    gap = (log_q - floored(log_target)).detach()
    others = (gap.sum(dim=1, keepdim=True) - gap) / (gap.shape[1] - 1)
    return ((gap - others) * log_q).mean()


def forward_kl(log_q: Tensor, log_weights: Tensor) -> Tensor:
    """Cross-entropy of q under weighted fills: an estimate of KL(posterior || q) up to a constant.

    Weights are normalised within each evidence; an evidence all of whose weights are 0 contributes nothing.
    """
    weights = log_weights.softmax(dim=1).nan_to_num(nan=0.0)
    return -(weights * log_q.where(weights > 0, 0.0)).sum(dim=1).mean()


def floored(log_target: Tensor) -> Tensor:
    """The target, at least its maximum over the fills of the same evidence minus `FLOOR`; 0 where none is possible."""
    best = log_target.max(dim=1, keepdim=True).values
    return log_target.maximum(best - FLOOR).where(best > -math.inf, 0.0)


def _square(residual: Tensor, reach: float) -> Tensor:
    """Huber loss: half the square up to `reach`, linear beyond."""
    return F.huber_loss(residual, residual.new_zeros(()).expand_as(residual), reduction="none", delta=reach)
