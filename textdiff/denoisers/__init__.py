"""Denoisers: the contract, guidance, and the product of a denoiser and a causal model."""

from textdiff.denoisers.denoiser import (
    CachedDenoiser,
    CachesEvidence,
    Composed,
    Denoiser,
    DenoisingNetwork,
    OrderCausal,
    is_ordered,
    passes,
    token_log_probs,
)
from textdiff.denoisers.guidance import Guided
from textdiff.denoisers.nelbo import nelbo_exact_k
from textdiff.denoisers.product import ProductOfExperts

__all__ = [
    "CachedDenoiser",
    "CachesEvidence",
    "Composed",
    "Denoiser",
    "DenoisingNetwork",
    "Guided",
    "OrderCausal",
    "ProductOfExperts",
    "is_ordered",
    "nelbo_exact_k",
    "passes",
    "token_log_probs",
]
