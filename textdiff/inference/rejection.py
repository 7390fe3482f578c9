"""Rejection sampling: exact posterior draws, at a cost that grows quickly with the size of the gap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from textdiff.errors import UserError
from textdiff.files.fields import Field, number, whole
from textdiff.inference.importance import log_weights
from textdiff.posterior import Draws, ExactPosterior, Posterior, PosteriorSampler

AT_ONCE = 256
"""Most proposals in one batch."""


@final
@dataclass(frozen=True)
class Rejection(PosteriorSampler):
    """Draws of the prior's sampler, each accepted with probability weight / bound: independent and equally weighted.

    Args:
        log_bound: no log-weight is above it. None: 0 where the weight is a likelihood of at most 1, the log-evidence
            where a world proposes to itself; otherwise it must be given.
        most: proposals to try, at most; a hundredth of them, if none has any weight.
    """

    exactness: ClassVar[str] = "exact, if no weight is above the bound (one that is seen is an error)"
    fields: ClassVar[Mapping[str, Field]] = {
        "log_bound": number(lambda value: True, "a number of nats").optional(),
        "most": whole(1, 2**32),
    }
    log_bound: float | None = None
    most: int = 100_000

    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """Draw `n` samples.

        Raises:
            UserError: there is no bound, a weight was above it, or too few proposals were accepted.
        """
        bound = self._bound(posterior)
        kept: list[tuple[Tensor, Tensor | None]] = []
        tried = found = passes = 0
        alive = False
        while found < n and tried < self.most:
            drawn = posterior.propose(min(AT_ONCE, self.most - tried), generator)
            weights, extra = log_weights(posterior, drawn)
            if (highest := float(weights.max())) > bound + 1e-9:
                raise UserError(f"a log-weight is {highest:.4f}, above the bound {bound:.4f}: give a larger log_bound")
            alive = alive or highest > -torch.inf
            if not alive and tried >= self.most // 100:
                raise UserError(
                    f"none of {tried + len(weights)} proposals has any weight, so that none can be accepted: the "
                    "evidence may rule out all texts; raise most if it does not"
                )
            uniform = torch.rand(len(weights), generator=generator, dtype=torch.float64).to(weights.device)
            accepted = (uniform.log() < weights - bound).nonzero()[:, 0]
            kept.append((drawn.tokens[accepted], None if drawn.log_q is None else drawn.log_q[accepted]))
            found, tried = found + len(accepted), tried + len(weights)
            passes += int(drawn.nfe.sum()) + extra * len(weights)
        if found < n:
            raise UserError(
                f"{found} of {tried} proposals were accepted, {n} were asked for: raise most, or use Importance() or "
                "SMC(), which do not throw draws away"
            )
        log_q = [scores for _, scores in kept if scores is not None]
        return Draws(
            tokens=torch.cat([tokens for tokens, _ in kept])[:n],
            log_weights=None,
            log_q=torch.cat(log_q)[:n] if log_q else None,
            nfe=torch.full((n,), passes / n),
            label=f"rejection from {posterior.prior.label}",
            has_evidence=False,
            diagnostics={"acceptance": found / tried, "log_evidence": bound + float(torch.tensor(found / tried).log())},
            kind=posterior.prior.kind,
        )

    def _bound(self, posterior: Posterior) -> float:
        if self.log_bound is not None:
            return self.log_bound
        if posterior.targets_own_sampler:
            return 0.0
        if isinstance(posterior.prior, ExactPosterior) and posterior.target is posterior.prior:
            return float(posterior.prior.log_evidence(posterior.canvas))
        raise UserError(
            "rejection needs a bound on the log-weight target / proposal, and none is known here: give log_bound, or "
            "use Importance()"
        )
