"""Masked discrete diffusion: the masking process and its noise schedules; no network."""

from textdiff.diffusion.process import MaskedDiffusion, low_discrepancy_times, mask_exactly, random_order
from textdiff.diffusion.schedules import Cosine, Geometric, Linear, NoiseSchedule, Polynomial
from textdiff.diffusion.subs import subs

__all__ = [
    "Cosine",
    "Geometric",
    "Linear",
    "MaskedDiffusion",
    "NoiseSchedule",
    "Polynomial",
    "low_discrepancy_times",
    "mask_exactly",
    "random_order",
    "subs",
]
