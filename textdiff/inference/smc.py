"""Sequential Monte Carlo over unmasking steps (cf. arXiv:2501.06848): weights after each step, not at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from textdiff.errors import UserError
from textdiff.inference.resampling import Resampling, systematic
from textdiff.posterior import (
    Draws,
    ExactJoint,
    ExactPosterior,
    Genealogy,
    Posterior,
    PosteriorSampler,
    SupportsParticles,
    relative_variance,
)
from textdiff.samplers import GivenTokens, LogProbKind, Progress, Trajectory


@final
@dataclass(frozen=True)
class SMC(PosteriorSampler):
    """Particles that denoise side by side; those that the target finds unlikely give way to copies of the others.

    After each step a particle weighs what its revealed tokens are worth to the target over what the sampler gave for
    them, times the evidence's look-ahead (`Evidence.log_potential`). A world knows the worth of any partly filled text,
    an autoregressive target that of the text before the first masked slot, the law of a sampler nothing before the end.
    With a `bridge` a partly filled text weighs as if the slots that are still open were not there: what is written is
    then judged by the text after the gap, too, which an autoregressive sampler does not see.

    Args:
        threshold: resample when the effective sample size falls below this share of the particles; 0 never does.
        resampling: how, see `textdiff.inference.resampling`.
        bridge: weigh by the target's joint of the text without its open slots; the target must have a joint in
            which every text has a probability, as the twin's; elsewhere the particles die on the way.
    """

    exactness: ClassVar[str] = "sequential Monte Carlo: exact as n grows; unbiased evidence at any n"
    threshold: float = 0.5
    resampling: Resampling = systematic
    bridge: bool = False

    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """Draw `n` particles.

        Raises:
            UserError: the prior does not fill in steps, its order looks at the drawn tokens, or there is no bridge.
        """
        if not 0 <= self.threshold <= 1:
            raise UserError(f"threshold is {self.threshold}, expected a share of the particles between 0 and 1")
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


class Particles:
    """Groups of particles that are weighted and resampled group by group while they denoise.

    Args:
        posterior: what they approach.
        groups, size: number of independent groups, and particles in each.
        threshold: share of `size` below which the effective sample size of a group triggers resampling.
        resampling: the scheme.
        retained: complete texts `[groups, length]` that the first particle of each group follows (a conditional
            particle filter): it survives each resampling, and the scheme must be multinomial.
        bridge: see `SMC`.

    Raises:
        UserError: the prior does not fill in steps, its order looks at the drawn tokens, or there is no bridge.
    """

    def __init__(
        self,
        posterior: Posterior,
        groups: int,
        size: int,
        threshold: float,
        resampling: Resampling,
        retained: Tensor | None = None,
        bridge: bool = False,
    ) -> None:
        prior, target = posterior.prior, posterior.target
        if not isinstance(prior, SupportsParticles):
            raise UserError(f"particles need a prior that fills a gap in steps, this is {prior.label}")
        if prior.kind is LogProbKind.NONE:
            raise UserError(f"{prior.label} has no log-probability: choose another policy, such as 'strided'")
        if bridge and not isinstance(target, ExactJoint):
            raise UserError(
                f"a bridge needs a target with an exact joint, this is {target.label}: give target=, such as the twin"
            )
        self.bridge = target if bridge and isinstance(target, ExactJoint) else None
        self.posterior, self.prior, self.size, self.groups = posterior, prior, size, groups
        self.threshold, self.resampling, self.retained = threshold, resampling, retained
        self.log_weights = torch.zeros(groups, size, dtype=torch.float64)
        self.log_scale = torch.zeros(groups, dtype=torch.float64)
        self.resamplings = torch.zeros(groups, dtype=torch.long)
        self.variance = torch.zeros(groups, dtype=torch.float64)
        self.founders = torch.arange(size).repeat(groups, 1)
        self.passes = 0
        self._worth = torch.zeros(groups, size, dtype=torch.float64)

    def run(self, generator: Generator) -> Trajectory:
        """Denoise all particles; rows come group by group."""

        def steer(progress: Progress) -> Tensor | None:
            self._weigh(progress)
            return self._resample(generator) if progress.masked.any() else None

        rows, prior = self.groups * self.size, self.prior
        given = None
        if self.retained is not None:
            first = torch.arange(rows, device=prior.device) % self.size == 0
            given = GivenTokens(self.retained.repeat_interleave(self.size, dim=0), first)
        return prior.steered(self.posterior.canvas.repeat(rows), generator, steer, given)

    def _weigh(self, progress: Progress) -> None:
        """Weigh what the last step has changed."""
        worth = self._worth_of(progress).cpu().view(self.groups, self.size)
        gone = (worth == -math.inf) | (self._worth == -math.inf)
        change = (worth - self._worth).masked_fill(gone, -math.inf)
        self.log_weights = self.log_weights + change
        self._worth = worth

    def _worth_of(self, progress: Progress) -> Tensor:
        """Log of intermediate target over proposal, `[rows]`."""
        posterior, tokens, masked = self.posterior, progress.tokens, progress.masked
        done = ~masked.any(dim=1)
        worth = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
        if not posterior.targets_own_sampler:
            log_q = progress.log_q
            partial = self._partial(tokens, masked)
            if partial is not None:
                log_p, counted = partial
                worth = log_p - progress.length_log_q - (progress.slot_log_q * counted).sum(dim=1)
                self.passes += not isinstance(posterior.target, ExactPosterior)
            elif done.any():
                canvas = posterior.canvas.repeat(int(done.sum()))
                density, passes = posterior.target.log_density(canvas, tokens[done])
                worth[done] = density - log_q[done]
                self.passes += passes
        if posterior.evidence.weighs:
            if done.any():
                worth[done] += posterior.evidence.log_likelihood(tokens[done], posterior.decode)
            if not done.all():
                worth[~done] += posterior.evidence.log_potential(tokens[~done], masked[~done], posterior.decode)
        if progress.constraint is None:
            return worth
        return worth + progress.constraint.log_excess + progress.constraint.log_ahead

    def _partial(self, tokens: Tensor, masked: Tensor) -> tuple[Tensor, Tensor] | None:
        """What the target knows of partly filled texts, see `Prior.log_partial`."""
        if self.bridge is None:
            return self.posterior.target.log_partial(tokens, masked)
        null = self.prior.vocabulary.null
        assert null is not None
        with torch.no_grad():
            return self.bridge.log_prob(tokens.masked_fill(masked, null)), ~masked

    def _resample(self, generator: Generator) -> Tensor | None:
        """Resample the groups that need it: the row that each row goes on from, or None."""
        alive = (self.log_weights > -math.inf).any(dim=1)
        weights = self.log_weights.softmax(dim=1)
        low = alive & (1 / weights.square().sum(dim=1) < self.threshold * self.size)
        if not low.any():
            return None
        parents = torch.arange(self.size).repeat(self.groups, 1)
        for group in low.nonzero()[:, 0].tolist():
            parents[group] = self.resampling(weights[group], generator)
            self.variance[group] += relative_variance(weights[group])
            if self.retained is not None:
                parents[group, 0] = 0
        self.log_scale += torch.where(low, self.log_weights.logsumexp(dim=1) - math.log(self.size), 0.0)
        self.log_weights = self.log_weights.masked_fill(low[:, None], 0.0)
        self.resamplings += low
        self.founders, self._worth = self.founders.gather(1, parents), self._worth.gather(1, parents)
        offset = self.size * torch.arange(self.groups)[:, None]
        return (parents + offset).flatten().to(self.prior.device)
