"""Denoisers: what the samplers ask of a network, guidance, and the product of a denoiser and a causal model."""

from textdiff.denoisers.denoiser import CachedDenoiser, CachesEvidence, Composed, Denoiser, passes, token_log_probs
from textdiff.denoisers.guidance import Guided
from textdiff.denoisers.nelbo import nelbo_exact_k

__all__ = [
    "CachedDenoiser",
    "CachesEvidence",
    "Composed",
    "Denoiser",
    "Guided",
    "nelbo_exact_k",
    "passes",
    "token_log_probs",
]
