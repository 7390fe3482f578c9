"""The masking process and the objective of masked discrete diffusion; no network."""

from textdiff.diffusion.masking import (
    low_discrepancy_times,
    mask_exactly,
    mask_from_random_step,
    mask_random_subset,
    mask_stratified_subsets,
    random_order,
    subset_weight,
)
from textdiff.diffusion.subs import subs

__all__ = [
    "low_discrepancy_times",
    "mask_exactly",
    "mask_from_random_step",
    "mask_random_subset",
    "mask_stratified_subsets",
    "random_order",
    "subs",
    "subset_weight",
]
