"""Exact posterior draws, where the prior allows them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Generator

from textdiff.errors import UserError
from textdiff.posterior import ExactPosterior, Posterior, PosteriorSampler, WeightedSamples


@final
@dataclass(frozen=True)
class Exact(PosteriorSampler):
    """Independent draws of the exact posterior of a world; the log-evidence is exact, too."""

    exactness: ClassVar[str] = "exact"

    def sample(self, posterior: Posterior, n: int, generator: Generator) -> WeightedSamples:
        """Draw `n` samples.

        Raises:
            UserError: the target is no world, or the evidence has a likelihood.
        """
        world = posterior.target
        if not isinstance(world, ExactPosterior):
            raise UserError(f"exact draws need an exact world as the target, this is {world.label}: use Importance()")
        if posterior.weighs:
            raise UserError("exact draws heed fixed tokens only: give method=Importance() for a likelihood")
        started = time.perf_counter()
        canvas = posterior.canvas.to(world.device)
        drawn = world.sample(canvas.repeat(n), generator)
        return posterior.samples(
            drawn.tokens,
            world.log_evidence(canvas).expand(n).clone(),
            drawn.log_q,
            drawn.nfe,
            started=started,
            label=world.label,
            exactness=self.exactness,
            kind=drawn.kind,
        )
