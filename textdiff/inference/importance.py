"""Self-normalised importance sampling: the prior's sampler proposes, weights correct for its error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from textdiff.errors import UserError
from textdiff.files.fields import FUNCTION, Field, number
from textdiff.posterior import Draws, Posterior, PosteriorSampler
from textdiff.samplers import Tempering, Trajectory, Watch


@final
@dataclass(frozen=True)
class Importance(PosteriorSampler):
    """Independent draws of the prior's sampler, weighted by target over proposal; `resample` turns them into SIR.

    With a policy that draws its order at random, the weights are those on the space of (fill, order). The weights can
    be relied on if `diagnostics["pareto_k"]` is below 0.7 (arXiv:1507.02646).

    Args:
        temperature: of the proposal; a little above 1 gives it heavier tails. The weights correct for it.
        watch: called after each step, as in `Prior.infill`; all draws are then one batch.
    """

    exactness: ClassVar[str] = "self-normalised importance sampling: exact as n grows; unbiased evidence at any n"
    fields: ClassVar[Mapping[str, Field]] = {
        "temperature": number(lambda value: value > 0, "above 0: weights cannot make up for tokens never drawn"),
        "watch": FUNCTION.optional(),
    }
    temperature: float = 1.0
    watch: Watch | None = None

    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """Draw `n` weighted samples.

        Raises:
            UserError: the draws or the target have no density.
        """
        drawn = posterior.propose(n, generator, tempering := Tempering(self.temperature), self.watch)
        weights, passes = log_weights(posterior, drawn, tempered=not tempering.neutral)
        return Draws(
            tokens=drawn.tokens,
            log_weights=weights,
            log_q=drawn.log_q,
            nfe=drawn.nfe + passes,
            label=f"importance sampling from {posterior.prior.label}",
            kind=drawn.kind,
            diagnostics={"pareto_k": pareto_k(weights.cpu())},
        )


def log_weights(posterior: Posterior, drawn: Trajectory, tempered: bool = False) -> tuple[Tensor, int]:
    """Log-weights of draws of the prior's sampler, `[n]`, and the target's forward passes for each.

    Raises:
        UserError: the draws or the target have no density.
    """
    if posterior.targets_own_sampler and not tempered:  # the density cancels
        weights = posterior.evidence.log_likelihood(drawn.tokens, posterior.decode)
        if posterior.canvas.dfa is None:
            return weights, 0
        if drawn.log_excess is not None:
            return weights + drawn.log_excess, 0
    if drawn.log_q is None:
        raise UserError(
            f"draws of {posterior.prior.label} have no density, so they cannot be weighted: choose a policy whose "
            "order does not look at the drawn tokens, such as 'strided'"
        )
    density, passes = posterior.log_density(drawn.tokens)
    weights = density - drawn.log_q
    if drawn.log_excess is not None:
        weights = weights.masked_fill(drawn.log_excess == -torch.inf, -torch.inf)
    return weights, passes


def pareto_k(log_weights: Tensor) -> float:
    """Shape of the generalised Pareto distribution that fits the largest weights (Vehtari et al., arXiv:1507.02646).

    Below 0.5 the weights have a finite variance, above 0.7 they are not to be relied on. Estimator of Zhang and
    Stephens (2009) with the paper's weak prior towards 0.5. NaN for fewer than 25 weights that are above zero, -inf if
    the largest are all alike.
    """
    alive = log_weights[log_weights > -math.inf].double()
    n = len(alive)
    tail = int(min(n / 5, 3 * math.sqrt(n)))
    if tail < 5:
        return math.nan
    ordered = (alive - alive.max()).exp().sort().values
    x = ordered[-tail:] - ordered[-tail - 1]
    x = x[x > 1e-12]
    if (tail := len(x)) < 5:
        return -math.inf
    grid = 30 + int(math.sqrt(tail))
    quartile = x[int(tail / 4 + 0.5) - 1]
    steps = torch.arange(1, grid + 1, dtype=torch.float64)
    theta = 1 / x[-1] + (1 - (grid / (steps - 0.5)).sqrt()) / (3 * quartile)
    shape = torch.log1p(-theta[:, None] * x).mean(dim=1)
    likelihood = tail * ((-theta / shape).log() - shape - 1)
    mean = (theta * likelihood.softmax(0)).sum()
    k = float(torch.log1p(-mean * x).mean())
    return (tail * k + 10 * 0.5) / (tail + 10)
