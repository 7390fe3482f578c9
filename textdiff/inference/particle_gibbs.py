"""Particle Gibbs: conditional SMC around a retained text, repeated.

Andrieu, Doucet and Holenstein 2010; for masked diffusion arXiv:2507.08390.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator

from textdiff.errors import UserError
from textdiff.files.fields import PROBABILITY, Field, whole
from textdiff.inference.metropolis import SWEEPS
from textdiff.inference.particles import Particles
from textdiff.inference.resampling import multinomial
from textdiff.posterior import Draws, Posterior, PosteriorSampler
from textdiff.samplers import LogProbKind, categorical


@final
@dataclass(frozen=True)
class ParticleGibbs(PosteriorSampler):
    """`n` independent chains, each of which starts from a draw of the sampler and makes sweeps of conditional SMC.

    A sweep leaves the posterior invariant with any number of particles from 2 on.

    Args:
        particles: in each sweep, the retained one included.
        sweeps: for each chain.
        threshold: see `SMC`.
    """

    exactness: ClassVar[str] = "Markov chain that leaves the posterior invariant: exact as sweeps grow"
    fields: ClassVar[Mapping[str, Field]] = {"particles": whole(2), "sweeps": SWEEPS, "threshold": PROBABILITY}
    particles: int = 8
    sweeps: int = 4
    threshold: float = 0.5

    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """Draw `n` samples, the ends of `n` chains.

        Raises:
            UserError: more particles than `Posterior.check_count` allows, or the order is no function of the canvas.
        """
        if posterior.prior.kind is not LogProbKind.EXACT:
            raise UserError(
                f"{posterior.prior.label} retraces no text: particle Gibbs needs a policy whose order is a function of "
                "the canvas, such as 'strided'"
            )
        posterior.check_count(n * self.particles, "n x particles", at_once=True)
        drawn = posterior.propose(n, generator)
        tokens, nfe, moved = drawn.tokens, drawn.nfe, 0.0
        for _ in range(self.sweeps):
            system = Particles(posterior, n, self.particles, self.threshold, multinomial, retained=tokens)
            moves = system.run(generator)
            chance = torch.rand(n, generator=generator, dtype=torch.float64)
            dead = (system.log_weights == -torch.inf).all(dim=1)
            chosen = categorical(system.log_weights.masked_fill(dead[:, None], 0.0).log_softmax(dim=1), chance)
            chosen = chosen.masked_fill(dead, 0)  # a start that the target rules out, and nothing better found
            rows = (chosen + self.particles * torch.arange(n)).to(tokens.device)
            moved += float((moves.tokens[rows] != tokens).any(dim=1).double().mean()) / self.sweeps
            tokens = moves.tokens[rows]
            nfe = nfe + moves.nfe.view(n, self.particles).sum(dim=1) + system.passes * self.particles
        return Draws(
            tokens=tokens,
            log_weights=None,
            log_q=None,
            nfe=nfe,
            label=f"particle Gibbs over {posterior.prior.label}, {self.sweeps} sweeps of {self.particles} particles",
            kind=LogProbKind.NONE,
            has_evidence=False,
            diagnostics={"moved": moved},
        )
