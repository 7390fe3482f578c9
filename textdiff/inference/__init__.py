"""Posterior inference: ways to draw from p(x | y), each stating its target and in what sense it is exact."""

from textdiff.inference.beam import Beam, BestOf
from textdiff.inference.by_length import ByLength
from textdiff.inference.diagnostics import Sandwich, log_evidence_sandwich, rank_uniformity
from textdiff.inference.exact import Exact
from textdiff.inference.importance import Importance, pareto_k
from textdiff.inference.infill import Infilled, InfillOptions, infill
from textdiff.inference.metropolis import BlockGibbs, MetropolisHastings
from textdiff.inference.particle_gibbs import ParticleGibbs
from textdiff.inference.rejection import Rejection
from textdiff.inference.resampled import Resampled
from textdiff.inference.resampling import Resampling, multinomial, residual, stratified, systematic
from textdiff.inference.smc import SMC

__all__ = [
    "SMC",
    "Beam",
    "BestOf",
    "BlockGibbs",
    "ByLength",
    "Exact",
    "Importance",
    "InfillOptions",
    "Infilled",
    "MetropolisHastings",
    "ParticleGibbs",
    "Rejection",
    "Resampled",
    "Resampling",
    "Sandwich",
    "infill",
    "log_evidence_sandwich",
    "multinomial",
    "pareto_k",
    "rank_uniformity",
    "residual",
    "stratified",
    "systematic",
]
