"""The masking process and its objective: which tokens of a text are masked, and the weight of each of them.

The objective is a sum over the masked tokens of weight x cross-entropy, in nats. It is written here only, for training
(`textdiff.data.corruption`: one text at a time, in NumPy, as data loaders work) and for evaluation
(`textdiff.denoisers.nelbo_exact_k`: a batch of texts, in PyTorch, with less variance). There are two forms of it.

* **A random subset.** Exactly k of n tokens are masked, k uniform on 1..n, and each has weight n / k. The mean is the
  NELBO, which bounds -log p from above (arXiv:2502.09992, eq. 14): no time is drawn, and so none is clamped.
* **An order.** An unmasking policy reveals a gap in a number of steps, and -log q of the gap is the sum over all its
  tokens, with weight 1, of the cross-entropy given the tokens of earlier steps. Evaluation takes every step
  (`textdiff.samplers.path_log_prob`), and so does the training of an order-causal network, which answers for all steps
  in one pass: the objective is exact for an order, and its mean over random orders is estimated. The training of other
  networks takes one of the steps at random, whose weight 1 becomes the number of steps.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Mask = NDArray[np.bool_]
Weights = NDArray[np.float32]
Number = TypeVar("Number", float, Tensor)


def subset_weight(n: Number, k: Number) -> Number:
    """Weight n / k of each masked token where k of n are masked; finite where none is.

    Args:
        n: tokens that may be masked; a tensor of any shape, or a number.
        k: tokens that are masked, likewise; give a tensor in float64.
    """
    return n / (k + (k == 0))


def mask_random_subset(maskable: Mask, rng: np.random.Generator) -> tuple[Mask, Weights]:
    """Mask k of the n maskable positions of a text `[length]`, k uniform on 1..n: mask and weights `[length]`."""
    positions = np.flatnonzero(maskable)
    n = len(positions)
    k = int(rng.integers(1, n + 1)) if n else 0
    masked = np.zeros(len(maskable), dtype=bool)
    masked[rng.permutation(positions)[:k]] = True
    return masked, (masked * subset_weight(n, k)).astype(np.float32)


def mask_from_random_step(
    order: NDArray[np.int64], steps: int, rng: np.random.Generator, lookahead: float = 0.0
) -> tuple[Mask, Weights]:
    """Mask what a policy reveals in a random step of a gap or later: mask and weights `[slots]`.

    The tokens of that step weigh `steps`, which makes the estimate unbiased for -log q of the gap in this order.

    Args:
        order: step, from 0 on, in which the policy reveals each slot, `[slots]`.
        steps: their number; each has at least one slot.
        rng: source of the step.
        lookahead: share, in [0, 1], of a second estimate in the sum: that the next token is any masked one, with weight
            n / k as in a random subset.
    """
    step = rng.integers(steps)
    masked = order >= step
    # The second term is subset_weight, in an order of multiplication that older checkpoints were trained with.
    weights = (1 - lookahead) * steps * (order == step) + lookahead * len(order) / masked.sum() * masked
    return masked, weights.astype(np.float32)


def random_order(n: int, steps: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The step, from 0 on, that reveals each of `n` slots in a random order, spread evenly over `steps`: `[n]`."""
    return rng.permutation(n) * min(steps, n) // n


def mask_stratified_subsets(maskable: Tensor, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mask random subsets of each row as `mask_random_subset` does, with numbers k that are stratified.

    With `samples` a multiple of the n maskable positions of a row, each k in 1..n occurs equally often in it.

    Args:
        maskable: bool `[batch, length]`.
        samples: subsets of each row.
        generator: source of the subsets.

    Returns:
        The masked positions, bool `[samples * batch, length]`, sample by sample, and the weight of each one in a row,
        float64 `[samples * batch]`.
    """
    times = low_discrepancy_times(len(maskable), generator, samples, maskable.device)
    maskable = maskable.repeat(samples, 1)
    n = maskable.sum(-1)
    k = (times * n).ceil()
    return mask_exactly(maskable, k, generator), subset_weight(n, k)


def low_discrepancy_times(
    batch: int, generator: torch.Generator, samples: int = 1, device: torch.device | None = None
) -> Tensor:
    """Stratified times in (0, 1], float64 `[samples * batch]`, sample by sample (after arXiv:2107.00630).

    Each of the `samples * batch` equal strata holds one time, and so does each of the `samples` strata of every row. A
    row's stratum is drawn at random: an estimate is unbiased row by row, and its batch mean varies little.
    """
    device = device or generator.device
    order = _uniforms(samples, batch, generator=generator, device=device).argsort(-1)
    stratum = order + batch * torch.arange(samples, device=device)[:, None]
    jitter = 1 - _uniforms(samples, batch, generator=generator, device=device)
    return ((stratum + jitter) / (samples * batch)).flatten()


def mask_exactly(maskable: Tensor, k: Tensor, generator: torch.Generator) -> Tensor:
    """A uniformly random subset of `k [batch]` of the maskable positions, bool `[batch, length]`."""
    noise = _uniforms(*maskable.shape, generator=generator, device=maskable.device)
    rank = noise.masked_fill(~maskable, torch.inf).argsort(-1).argsort(-1)
    return maskable & (rank < k[:, None])


def _uniforms(*shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Float64 uniforms on [0, 1), drawn where the generator lives: the same numbers for every device."""
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device).to(device)
