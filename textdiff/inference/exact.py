"""Exact posterior draws, for targets that can sample their posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Generator

from textdiff.errors import UserError
from textdiff.posterior import Draws, ExactPosterior, Posterior, PosteriorSampler


@final
@dataclass(frozen=True)
class Exact(PosteriorSampler):
    """Independent draws of the exact posterior of a world; the log-evidence is exact, too."""

    exactness: ClassVar[str] = "exact"

    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """Draw `n` samples.

        Raises:
            UserError: the target is no world, or the evidence has a likelihood.
        """
        world = posterior.target
        if not isinstance(world, ExactPosterior):
            raise UserError(f"exact draws need an exact world as the target, this is {world.label}: use Importance()")
        if posterior.weighs:
            raise UserError("exact draws heed fixed tokens only: give method=Importance() for a likelihood")
        canvas = posterior.canvas.to(world.device)
        drawn = world.sample(canvas.repeat(n), generator)
        return Draws(
            tokens=drawn.tokens,
            log_weights=world.log_evidence(canvas).expand(n).clone(),
            log_q=drawn.log_q,
            nfe=drawn.nfe,
            label=world.label,
            kind=drawn.kind,
        )
