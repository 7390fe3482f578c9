"""Denoisers: what the samplers ask of a network, guidance, and the product of a denoiser and a causal model."""

from textdiff.denoisers.denoiser import CachedDenoiser, CachesEvidence, Composed, Denoiser, passes, token_log_probs
from textdiff.denoisers.guidance import Guided
from textdiff.denoisers.likelihood import any_order_bound, subset_log_prob
from textdiff.denoisers.nelbo import nelbo, nelbo_exact_k

__all__ = [
    "CachedDenoiser",
    "CachesEvidence",
    "Composed",
    "Denoiser",
    "Guided",
    "any_order_bound",
    "nelbo",
    "nelbo_exact_k",
    "passes",
    "subset_log_prob",
    "token_log_probs",
]
