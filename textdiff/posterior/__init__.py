"""The contracts of inference: priors, posteriors, weighted samples, plain conditioning, streaming and batching."""

from textdiff.posterior.batching import infill_batch
from textdiff.posterior.posterior import Conditioning, Posterior, PosteriorSampler
from textdiff.posterior.prior import Prior, TractablePrior
from textdiff.posterior.samples import Genealogy, Scored, WeightedSamples, relative_variance, seeded
from textdiff.posterior.streaming import Draft

__all__ = [
    "Conditioning",
    "Draft",
    "Genealogy",
    "Posterior",
    "PosteriorSampler",
    "Prior",
    "Scored",
    "TractablePrior",
    "WeightedSamples",
    "infill_batch",
    "relative_variance",
    "seeded",
]
