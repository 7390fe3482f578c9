"""Networks: one transformer, bidirectional or causal, its caches and adapters; foreign architectures."""

from textdiff.models.adapter_files import load_adapter, save_adapter
from textdiff.models.adapters import LoRA, merge_adapter, use_adapter
from textdiff.models.attention import causal_visibility, denoising_visibility
from textdiff.models.cache import EvidenceCache, KeyValueCache
from textdiff.models.config import Attention, TransformerConfig
from textdiff.models.fingerprint import fingerprint
from textdiff.models.foreign.denoiser import ForeignConfig, ForeignDenoiser
from textdiff.models.foreign.families import FAMILIES, Family
from textdiff.models.transformer import Transformer

__all__ = [
    "FAMILIES",
    "Attention",
    "EvidenceCache",
    "Family",
    "ForeignConfig",
    "ForeignDenoiser",
    "KeyValueCache",
    "LoRA",
    "Transformer",
    "TransformerConfig",
    "causal_visibility",
    "denoising_visibility",
    "fingerprint",
    "load_adapter",
    "merge_adapter",
    "save_adapter",
    "use_adapter",
]
