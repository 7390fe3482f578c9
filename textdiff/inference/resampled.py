"""Sampling importance resampling: independent fills, each drawn by weight from a weighted set of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator

from textdiff.errors import UserError
from textdiff.files.fields import Field, instance, whole
from textdiff.inference.importance import Importance
from textdiff.posterior import Draws, Posterior, PosteriorSampler
from textdiff.samplers import LogProbKind, categorical


@final
@dataclass(frozen=True)
class Resampled(PosteriorSampler):
    """Independent, equally weighted fills: each is drawn by weight from `particles` weighted samples of its own.

    `log_q` is log gamma(z) - log Z-hat, with the target's unnormalised density gamma and the set's estimate of the
    evidence: the log-probability of the fill and of all auxiliary variables of the sampler, up to factors that the
    extended target shares. So the mean of `log_q` - log p is a KL divergence on the extended space, and bounds
    KL(q || p) from above (Andrieu, Doucet and Holenstein 2010; Naesseth et al., arXiv:1705.11140).
    `diagnostics["set_ess"]` is the mean effective sample size of a set; near 1, the choice is nearly deterministic.

    Args:
        method: draws the weighted sets and estimates the evidence, such as `SMC`; None: `Importance()`.
        particles: samples in a set.
    """

    exactness: ClassVar[str] = "as exact as the weighted sets make it: exact as particles grow"
    fields: ClassVar[Mapping[str, Field]] = {
        "method": instance(PosteriorSampler, "a method that estimates the evidence, such as SMC()").optional(),
        "particles": whole(1),
    }
    method: PosteriorSampler | None = None
    particles: int = 16

    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """Draw `n` independent fills; one whose whole set has no weight has none itself.

        Raises:
            UserError: more particles than `Posterior.check_count` allows, or a method that does not estimate the
                evidence.
        """
        posterior.check_count(n * self.particles, "n x particles")
        method, size = Importance() if self.method is None else self.method, self.particles
        if isinstance(method, Importance):  # its draws are independent, so that all sets fit into one batch
            sets = [posterior.sample(n * size, method, generator=generator)]
        else:
            sets = [posterior.sample(size, method, generator=generator) for _ in range(n)]
        if not sets[0].has_evidence:
            raise UserError(f"{sets[0].label} does not estimate the evidence: choose Importance() or SMC()")
        weights = torch.cat([some.log_weights for some in sets]).view(n, size)
        alive = (weights > -torch.inf).any(dim=1)
        probs = weights.masked_fill(~alive[:, None], 0.0).softmax(dim=1)
        picked = torch.arange(n) * size + categorical(
            probs.log(), torch.rand(n, generator=generator, dtype=torch.float64)
        )
        tokens = torch.cat([some.tokens for some in sets])[picked]
        density, _ = posterior.log_density(tokens.to(posterior.prior.device))
        evidence = weights.logsumexp(dim=1) - math.log(size)
        return Draws(
            tokens=tokens,
            log_weights=torch.zeros(n, dtype=torch.float64).masked_fill(~alive, -torch.inf),
            log_q=(density.cpu() - evidence).masked_fill(~alive, -torch.inf),
            nfe=torch.cat([some.nfe for some in sets]).view(n, size).sum(dim=1),
            label=f"one of {size} by weight, {sets[0].label}",
            kind=LogProbKind.GIVEN_ORDER,
            has_evidence=False,
            diagnostics={"set_ess": float((1 / probs.square().sum(dim=1)).mean())},
        )
