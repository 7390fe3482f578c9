"""A candidate of a comparison: a prior, a method, and the posterior that is meant."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import final

from torch import nn

from textdiff.models import fingerprint
from textdiff.posterior import Conditioning, Posterior, PosteriorSampler, Prior
from textdiff.samplers import LogProbKind
from textdiff.text import Canvas


@final
@dataclass(frozen=True, eq=False)
class Candidate:
    """A way to fill gaps.

    Args:
        name: its name in the tables.
        prior: proposes fills, under its unmasking policy.
        method: how posterior samples are drawn; None: plain conditioning.
        target: the prior whose posterior is meant; None: `prior` itself.
    """

    name: str
    prior: Prior
    method: PosteriorSampler | None = None
    target: Prior | None = None

    def posterior(self, canvas: Canvas) -> Posterior:
        """Its posterior given a canvas."""
        return self.prior.given(canvas, target=self.target)

    @property
    def has_exact_likelihood(self) -> bool:
        """Whether it knows the exact log-probability of a given fill."""
        return self.prior.kind is LogProbKind.EXACT and isinstance(self.method, Conditioning | None)

    @property
    def fingerprint(self) -> str:
        """A hash of all that its figures depend on: weights, policy, method, target."""
        method = re.sub(r" at 0x[0-9a-f]+", "", repr(self.method))  # addresses of functions differ between processes
        parts = [self.prior.label, method, *map(_identity, (self.prior, self.target))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _identity(prior: Prior | None) -> str:
    """A hash of a prior's network, with its device and dtype; or a world's name."""
    if prior is None:
        return ""
    network = getattr(prior, "network", None)
    if not isinstance(network, nn.Module):
        return prior.label
    return f"{fingerprint(network)} {prior.device} {next(network.parameters()).dtype}"
