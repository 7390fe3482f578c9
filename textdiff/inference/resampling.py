"""Resampling schemes: ancestors drawn from normalised weights, each n w_i times in expectation.

Douc, Cappé and Moulines 2005 compare them; all draw from an explicit generator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

Resampling = Callable[[Tensor, Generator], Tensor]
"""Weights `[n]` that sum to 1 -> ancestors `[n]`, among which particle i is expected n w_i times."""


def multinomial(weights: Tensor, generator: Generator) -> Tensor:
    """Independent draws."""
    return _at(weights, torch.rand(len(weights), generator=generator, dtype=torch.float64))


def stratified(weights: Tensor, generator: Generator) -> Tensor:
    """One draw from each of n equal strata of the quantiles."""
    n = len(weights)
    return _at(weights, (torch.arange(n) + torch.rand(n, generator=generator, dtype=torch.float64)) / n)


def systematic(weights: Tensor, generator: Generator) -> Tensor:
    """Equally spaced quantiles with one random shift: the number of copies of i is n w_i rounded down or up."""
    n = len(weights)
    return _at(weights, (torch.arange(n) + torch.rand(1, generator=generator, dtype=torch.float64)) / n)


def residual(weights: Tensor, generator: Generator) -> Tensor:
    """As many copies as n w_i has wholes, the rest drawn independently from the remainders."""
    n = len(weights)
    copies = (n * weights).floor().long()
    kept = torch.arange(n).repeat_interleave(copies)
    rest = n - len(kept)
    if not rest:
        return kept
    left = (n * weights - copies).clamp(min=0)
    uniform = torch.rand(rest, generator=generator, dtype=torch.float64)
    return torch.cat((kept, _at(left / left.sum(), uniform)))


def _at(weights: Tensor, quantiles: Tensor) -> Tensor:
    """The category at each quantile, never one without weight."""
    cdf = weights.double().cumsum(0)
    last = cdf[-1].nextafter(torch.zeros_like(cdf[-1]))
    return torch.searchsorted(cdf, torch.minimum(quantiles * cdf[-1], last), right=True)
