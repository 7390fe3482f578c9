"""Single posterior samples, each from a weighted set of its own: what an honest draw costs without amortization."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator

from textdiff.errors import UserError
from textdiff.inference.importance import Importance
from textdiff.priors import Posterior, PosteriorSampler, WeightedSamples
from textdiff.samplers import LogProbKind


@final
@dataclass(frozen=True)
class Resampled(PosteriorSampler):
    """Independent, equally weighted fills: each is drawn by weight from `particles` weighted samples of its own.

    `log_q` is log gamma(z) - log Z-hat, with the target's unnormalised density gamma and the set's estimate of the
    evidence. It is the log-probability of the fill together with how it came about, up to factors that the target
    shares; so the mean of `log_q` - log p is a KL divergence on the larger space, and bounds KL(q || p) from above
    (Andrieu, Doucet and Holenstein 2010; Naesseth et al., arXiv:1705.11140).

    Args:
        method: gives weighted samples and estimates the evidence, such as `SMC`; None: `Importance()`.
        particles: samples in a set.
    """

    exactness: ClassVar[str] = "as exact as the weighted sets make it: exact as particles grow"
    method: PosteriorSampler | None = None
    particles: int = 16

    def sample(self, posterior: Posterior, n: int, generator: Generator) -> WeightedSamples:
        """Draw `n` independent fills; one whose whole set is dead has no weight.

        Raises:
            UserError: fewer than 1 particle, or a method that does not estimate the evidence.
        """
        if self.particles < 1:
            raise UserError(f"particles is {self.particles}, expected 1 or more")
        started = time.perf_counter()
        method = Importance() if self.method is None else self.method
        sets = [posterior.sample(self.particles, method, generator=generator) for _ in range(n)]
        if not sets[0].has_evidence:
            raise UserError(f"{sets[0].label} does not estimate the evidence: choose Importance() or SMC()")
        picked = [int(torch.multinomial(s.weights, 1, generator=generator)) if s.alive else 0 for s in sets]
        tokens = torch.stack([s.tokens[i] for s, i in zip(sets, picked, strict=True)])
        alive = torch.tensor([s.alive for s in sets])
        density, _ = posterior.log_density(tokens.to(posterior.prior.device))
        evidence = torch.tensor([s.log_evidence for s in sets], dtype=torch.float64)
        return posterior.samples(
            tokens,
            torch.zeros(n, dtype=torch.float64).masked_fill(~alive, -torch.inf),
            (density.cpu() - evidence).masked_fill(~alive, -torch.inf),
            torch.stack([s.nfe.sum() for s in sets]),
            started=started,
            label=f"one of {self.particles} by weight, {sets[0].label}",
            exactness=self.exactness,
            kind=LogProbKind.GIVEN_ORDER,
            has_evidence=False,
        )
