"""Sequential Monte Carlo over unmasking steps (cf. arXiv:2501.06848): particles are weighted after each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Generator

from textdiff.files.fields import FLAG, FUNCTION, PROBABILITY, Field
from textdiff.inference.particles import Particles
from textdiff.inference.resampling import Resampling, systematic
from textdiff.posterior import Draws, Genealogy, Posterior, PosteriorSampler


@final
@dataclass(frozen=True)
class SMC(PosteriorSampler):
    """Particles that are denoised in one batch; unlikely ones are replaced by copies of likelier ones.

    After each step the weight of a particle is the target's probability of its revealed tokens over the sampler's,
    times the evidence's look-ahead (`Evidence.log_potential`). A world has the probability of any partly filled text,
    an autoregressive target that of the text before the first masked slot, the sampler of a diffusion prior none before
    the end. With a `bridge` the target's probability of a partly filled text is that of the text without its masked
    slots: the revealed tokens are then judged by the text after the gap, too, which an autoregressive sampler does not
    see.

    Args:
        threshold: resample when the effective sample size falls below this share of the particles; 0 never does.
        resampling: how, see `textdiff.inference.resampling`.
        bridge: see above; the target must have a joint that gives every text a probability above zero, as an
            autoregressive prior does; otherwise all particles may lose their weight on the way.
    """

    exactness: ClassVar[str] = "sequential Monte Carlo: exact as n grows; unbiased evidence at any n"
    fields: ClassVar[Mapping[str, Field]] = {"threshold": PROBABILITY, "resampling": FUNCTION, "bridge": FLAG}
    threshold: float = 0.5
    resampling: Resampling = systematic
    bridge: bool = False

    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """Draw `n` particles.

        Raises:
            UserError: the prior does not fill in steps, its order depends on drawn tokens, or the target has no bridge.
        """
        particles = Particles(
            posterior, groups=1, size=n, threshold=self.threshold, resampling=self.resampling, bridge=self.bridge
        )
        drawn = particles.run(generator)
        resampled = int(particles.resamplings[0])
        return Draws(
            tokens=drawn.tokens,
            log_weights=particles.log_weights[0] + particles.log_scale[0],
            log_q=drawn.log_q,
            nfe=drawn.nfe + particles.passes,
            label=f"SMC over {posterior.prior.label}",
            kind=drawn.kind,
            genealogy=Genealogy(particles.founders[0], resampled, float(particles.variance[0])),
            diagnostics={"resamplings": resampled},
        )
