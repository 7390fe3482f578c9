"""The network: one transformer, bidirectional or causal."""

from textdiff.models.attention import causal_visibility, denoising_visibility
from textdiff.models.cache import EvidenceCache, KeyValueCache
from textdiff.models.config import Attention, TransformerConfig
from textdiff.models.transformer import Transformer

__all__ = [
    "Attention",
    "EvidenceCache",
    "KeyValueCache",
    "Transformer",
    "TransformerConfig",
    "causal_visibility",
    "denoising_visibility",
]
