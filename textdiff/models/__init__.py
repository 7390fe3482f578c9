"""The network: one transformer, bidirectional or causal."""

from textdiff.models.transformer import (
    Attention,
    KeyValueCache,
    Transformer,
    TransformerConfig,
    causal_visibility,
    denoising_visibility,
)

__all__ = [
    "Attention",
    "KeyValueCache",
    "Transformer",
    "TransformerConfig",
    "causal_visibility",
    "denoising_visibility",
]
