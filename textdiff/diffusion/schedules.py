"""Noise schedules: the probability `alpha(t)` that a token is still visible at time t (arXiv:2406.04329)."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from textdiff.errors import UserError


class NoiseSchedule(ABC):
    """A strictly decreasing `alpha` on [0, 1] with alpha(0) = 1 (data) and alpha(1) = 0 (all mask).

    All methods are elementwise. Use float64 times: near t = 0 the masked share `1 - alpha(t)` is a difference.
    """

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Probability that a token is visible at time t."""

    @abstractmethod
    def alpha_prime(self, t: Tensor) -> Tensor:
        """Derivative of `alpha`, at most 0."""

    @abstractmethod
    def inverse(self, alpha: Tensor) -> Tensor:
        """The time at which a token is visible with probability `alpha`."""


@dataclass(frozen=True)
class Linear(NoiseSchedule):
    """alpha = 1 - t, the log-linear noise of arXiv:2310.16834: the masked share is the time."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def alpha_prime(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def inverse(self, alpha: Tensor) -> Tensor:
        return 1 - alpha


@dataclass(frozen=True)
class Cosine(NoiseSchedule):
    """alpha = 1 - sin(pi t / 2): masks fast at first, dwells near all mask."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - torch.sin(math.pi / 2 * t)

    def alpha_prime(self, t: Tensor) -> Tensor:
        return -math.pi / 2 * torch.cos(math.pi / 2 * t)

    def inverse(self, alpha: Tensor) -> Tensor:
        return 2 / math.pi * torch.asin(1 - alpha)


@dataclass(frozen=True)
class Polynomial(NoiseSchedule):
    """alpha = 1 - t ** power; a power above 1 dwells near the data, and gives a NELBO estimate of finite variance.

    Raises:
        UserError: If the power is not positive.
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise UserError(f"polynomial schedule: power {self.power} is not above 0; 1 is linear, 2 the default")

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t**self.power

    def alpha_prime(self, t: Tensor) -> Tensor:
        return -self.power * t ** (self.power - 1)

    def inverse(self, alpha: Tensor) -> Tensor:
        return (1 - alpha) ** (1 / self.power)


@dataclass(frozen=True)
class Geometric(NoiseSchedule):
    """alpha = exp(-sigma), stretched to reach 1 and 0, with sigma = sigma_min ** (1 - t) * sigma_max ** t.

    Source: arXiv:2310.16834.

    Raises:
        UserError: Unless 0 < sigma_min < sigma_max.
    """

    sigma_min: float = 1e-4
    sigma_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise UserError(
                f"geometric schedule: sigma {self.sigma_min} to {self.sigma_max} does not rise from above 0"
            )

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    @property
    def _reach(self) -> float:
        return -math.expm1(self.sigma_min - self.sigma_max)

    def _sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min ** (1 - t) * self.sigma_max**t

    def alpha(self, t: Tensor) -> Tensor:
        return 1 + torch.expm1(self.sigma_min - self._sigma(t)) / self._reach

    def alpha_prime(self, t: Tensor) -> Tensor:
        sigma = self._sigma(t)
        return -self._log_ratio * sigma * torch.exp(self.sigma_min - sigma) / self._reach

    def inverse(self, alpha: Tensor) -> Tensor:
        sigma = self.sigma_min - torch.log1p((alpha - 1) * self._reach)
        return torch.log(sigma / self.sigma_min) / self._log_ratio
