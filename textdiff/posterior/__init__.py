"""The contracts of inference: priors and their capabilities, posteriors, weighted samples, streaming, batching."""

from textdiff.posterior.batching import infill_batch
from textdiff.posterior.capabilities import (
    CausalJoint,
    ChoosesLayout,
    DecodesCausally,
    Denoises,
    ExactJoint,
    ExactPosterior,
    Layout,
    LengthDistribution,
    Simulates,
    SupportsExpert,
    SupportsGuidance,
    SupportsParticles,
)
from textdiff.posterior.distribution import TextDistribution
from textdiff.posterior.draws import Draws
from textdiff.posterior.posterior import Conditioning, Posterior, PosteriorSampler
from textdiff.posterior.prior import Prior
from textdiff.posterior.samples import Genealogy, Scored, WeightedSamples, relative_variance, seeded
from textdiff.posterior.streaming import Draft

__all__ = [
    "CausalJoint",
    "ChoosesLayout",
    "Conditioning",
    "DecodesCausally",
    "Denoises",
    "Draft",
    "Draws",
    "ExactJoint",
    "ExactPosterior",
    "Genealogy",
    "Layout",
    "LengthDistribution",
    "Posterior",
    "PosteriorSampler",
    "Prior",
    "Scored",
    "Simulates",
    "SupportsExpert",
    "SupportsGuidance",
    "SupportsParticles",
    "TextDistribution",
    "WeightedSamples",
    "infill_batch",
    "relative_variance",
    "seeded",
]
