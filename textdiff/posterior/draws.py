"""What an inference method returns: draws with their log-weights, before they are timed and decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from textdiff.posterior.samples import Genealogy
from textdiff.samplers import LogProbKind


@dataclass(frozen=True, eq=False, kw_only=True)
class Draws:
    """Weighted draws of a posterior; `Posterior.sample` makes `WeightedSamples` of them.

    Attributes:
        tokens: ids `[n, length]`, null in unused slots.
        log_weights: `[n]`, nats; None: all weigh the same.
        log_q: log-probability in nats that the sampler gave to each fill, `[n]`; None where it is not known.
        kind: in what sense `log_q` is known.
        nfe: forward passes spent on each draw, `[n]`, those of the target included.
        label: how they were drawn, in words.
        target: what they are samples of, in words; None: the target of the posterior.
        genealogy: of a particle system; None: the draws are independent.
        has_evidence: whether the mean of the weights estimates the evidence.
        diagnostics: further figures, by name.
    """

    tokens: Tensor
    log_weights: Tensor | None
    log_q: Tensor | None
    kind: LogProbKind
    nfe: Tensor
    label: str
    target: str | None = None
    genealogy: Genealogy | None = None
    has_evidence: bool = True
    diagnostics: Mapping[str, float] = field(default_factory=dict)
