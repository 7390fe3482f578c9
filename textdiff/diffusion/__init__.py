"""Masked discrete diffusion: noise schedules, the masking process, the NELBO, any-order likelihood; no network."""

from textdiff.diffusion.denoiser import Composed, Denoiser, EvidenceReader, Reading, passes, token_log_probs
from textdiff.diffusion.likelihood import any_order_bound, subset_log_prob
from textdiff.diffusion.nelbo import nelbo, nelbo_exact_k
from textdiff.diffusion.process import MaskedDiffusion, low_discrepancy_times, mask_exactly, random_order
from textdiff.diffusion.schedules import Cosine, Geometric, Linear, NoiseSchedule, Polynomial
from textdiff.diffusion.subs import subs

__all__ = [
    "Composed",
    "Cosine",
    "Denoiser",
    "EvidenceReader",
    "Geometric",
    "Linear",
    "MaskedDiffusion",
    "NoiseSchedule",
    "Polynomial",
    "Reading",
    "any_order_bound",
    "low_discrepancy_times",
    "mask_exactly",
    "nelbo",
    "nelbo_exact_k",
    "passes",
    "random_order",
    "subs",
    "subset_log_prob",
    "token_log_probs",
]
