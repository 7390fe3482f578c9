"""Groups of particles that are weighted and resampled while they are denoised: the core of SMC and particle Gibbs."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from textdiff.errors import UserError, by_the_user
from textdiff.inference.resampling import Resampling
from textdiff.posterior import ExactJoint, ExactPosterior, Posterior, SupportsParticles, relative_variance
from textdiff.samplers import GivenTokens, LogProbKind, Progress, Trajectory


class Particles:
    """Groups of particles that are denoised in one batch, and weighted and resampled group by group.

    Args:
        posterior: its target is what the weighted particles follow.
        groups, size: number of independent groups, and particles in each.
        threshold: share of `size` below which the effective sample size of a group triggers resampling.
        resampling: the scheme.
        retained: complete texts `[groups, length]` that the first particle of each group follows (a conditional
            particle filter): it survives each resampling, and the scheme must be multinomial.
        bridge: see `SMC`.

    Raises:
        UserError: the prior does not fill in steps, its order depends on drawn tokens, or the target has no bridge.
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
                f"a bridge needs a target with an exact joint, this is {target.label}: give target=, such as the AR "
                "baseline"
            )
        posterior.check_count(groups * size, "the number of particles", at_once=True)
        self.bridge = target if bridge and isinstance(target, ExactJoint) else None
        self.posterior, self.prior, self.size, self.groups = posterior, prior, size, groups
        self.threshold, self.resampling, self.retained = threshold, resampling, retained
        self.log_weights = torch.zeros(groups, size, dtype=torch.float64)
        self.log_scale = torch.zeros(groups, dtype=torch.float64)
        self.resamplings = torch.zeros(groups, dtype=torch.long)
        self.variance = torch.zeros(groups, dtype=torch.float64)
        self.founders = torch.arange(size).repeat(groups, 1)
        self.passes = 0
        self._log_ratio = torch.zeros(groups, size, dtype=torch.float64)

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
        """Update the weights by what the last step has changed."""
        log_ratio = self._log_ratios(progress).cpu().view(self.groups, self.size)
        gone = (log_ratio == -math.inf) | (self._log_ratio == -math.inf)
        change = (log_ratio - self._log_ratio).masked_fill(gone, -math.inf)
        self.log_weights = self.log_weights + change
        self._log_ratio = log_ratio

    def _log_ratios(self, progress: Progress) -> Tensor:
        """Log of intermediate target over proposal, float64 `[rows]`."""
        posterior, tokens, masked = self.posterior, progress.tokens, progress.masked
        done = ~masked.any(dim=1)
        log_ratio = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
        if not posterior.targets_own_sampler:
            log_q = progress.log_q
            partial = self._partial(tokens, masked)
            if partial is not None:
                log_p, counted = partial
                log_ratio = log_p - progress.length_log_q - (progress.slot_log_q * counted).sum(dim=1)
                self.passes += not isinstance(posterior.target, ExactPosterior)
            elif done.any():
                canvas = posterior.canvas.repeat(int(done.sum()))
                density, passes = posterior.target.log_density(canvas, tokens[done])
                log_ratio[done] = density - log_q[done]
                self.passes += passes
        if posterior.evidence.weighs:
            if done.any():
                log_ratio[done] += posterior.evidence.log_likelihood(tokens[done], posterior.decode)
            if not done.all():
                log_ratio[~done] += posterior.evidence.log_potential(tokens[~done], masked[~done], posterior.decode)
        if progress.constraint is None:
            return log_ratio
        return log_ratio + progress.constraint.log_excess + progress.constraint.log_ahead

    def _partial(self, tokens: Tensor, masked: Tensor) -> tuple[Tensor, Tensor] | None:
        """The target's probability of partly filled texts, see `TextDistribution.log_partial`."""
        if self.bridge is None:
            return self.posterior.target.log_partial(tokens, masked)
        null = self.prior.vocabulary.null
        assert null is not None
        with torch.no_grad():
            return self.bridge.log_prob(tokens.masked_fill(masked, null)), ~masked

    def _parents(self, weights: Tensor, generator: Generator) -> Tensor:
        """The ancestors `[size]` that the resampling scheme draws."""
        with by_the_user("resampling"):
            found = self.resampling(weights, generator)
        if not isinstance(found, Tensor) or found.shape != weights.shape or found.dtype != torch.long:
            came = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise UserError(f"resampling gave {came}: expected ancestors, int64 [{self.size}]")
        if ((found < 0) | (found >= self.size)).any():
            raise UserError(f"resampling gave an ancestor that is none of 0 to {self.size - 1}")
        return found

    def _resample(self, generator: Generator) -> Tensor | None:
        """Resample the groups that need it: the ancestor of each row, or None."""
        alive = (self.log_weights > -math.inf).any(dim=1)
        weights = self.log_weights.softmax(dim=1)
        low = alive & (1 / weights.square().sum(dim=1) < self.threshold * self.size)
        if not low.any():
            return None
        parents = torch.arange(self.size).repeat(self.groups, 1)
        for group in low.nonzero()[:, 0].tolist():
            parents[group] = self._parents(weights[group], generator)
            self.variance[group] += relative_variance(weights[group])
            if self.retained is not None:
                parents[group, 0] = 0
        self.log_scale += torch.where(low, self.log_weights.logsumexp(dim=1) - math.log(self.size), 0.0)
        self.log_weights = self.log_weights.masked_fill(low[:, None], 0.0)
        self.resamplings += low
        self.founders, self._log_ratio = self.founders.gather(1, parents), self._log_ratio.gather(1, parents)
        offset = self.size * torch.arange(self.groups)[:, None]
        return (parents + offset).flatten().to(self.prior.device)
