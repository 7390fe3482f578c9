"""Estimates with their uncertainty: means and ratios of totals, by standard errors or by the bootstrap.

A paired difference is the estimate of differences: subtract item by item first, so that what two candidates share
cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

RESAMPLES = 2000
"""Bootstrap resamples of the items behind each interval."""


@final
@dataclass(frozen=True)
class Estimate:
    """An estimate with its standard error over items."""

    value: float
    error: float

    @classmethod
    def of(cls, values: Tensor) -> Estimate:
        """The mean of one value for each item; the error of a single item is nan."""
        values = values.double()
        error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return cls(float(values.mean()), error)

    @classmethod
    def ratio(cls, amounts: Tensor, units: Tensor, *, unbiased: bool = True) -> Estimate:
        """Total of `amounts [items]` over total of `units [items]`; its error by the delta method.

        Args:
            amounts, units: one number for each item, such as nats and characters.
            unbiased: estimate the variance over items with n - 1 in the denominator instead of n.
        """
        value = amounts.sum() / units.sum()
        residuals = amounts - value * units
        if unbiased:
            error = residuals.std() / (units.double().mean() * math.sqrt(len(amounts)))
        else:
            error = residuals.square().sum().sqrt() / units.sum()
        return cls(value.item(), error.item())

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.error:.3f}"

    def signed(self) -> str:
        """The same with a sign, for differences."""
        return f"{self.value:+.3f} ± {self.error:.3f}"


@final
@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % bootstrap interval over items."""

    value: float
    low: float
    high: float

    @classmethod
    def ratio(cls, amounts: Sequence[float], units: Sequence[float]) -> Interval:
        """Total over total, with a percentile bootstrap over the items; its seed is fixed, so that it repeats."""
        if not amounts:
            return cls(math.nan, math.nan, math.nan)
        a, u = torch.tensor(amounts, dtype=torch.float64), torch.tensor(units, dtype=torch.float64)
        rows = torch.randint(len(a), (RESAMPLES, len(a)), generator=torch.Generator().manual_seed(0))
        low, high = (a[rows].sum(dim=1) / u[rows].sum(dim=1)).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
        return cls(float(a.sum() / u.sum()), low, high)

    @classmethod
    def mean(cls, values: Sequence[float]) -> Interval:
        """The mean of one value for each item."""
        return cls.ratio(values, [1.0] * len(values))

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def percent(self) -> str:
        """The same in per cent, without the sign."""
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def cell(self) -> str:
        """As a cell of a table: empty if it is not known, and without bounds if it is infinite."""
        if math.isnan(self.value):
            return ""
        return str(self) if math.isfinite(self.value) else f"{self.value}"
