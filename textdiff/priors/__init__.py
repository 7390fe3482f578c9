"""Priors over texts with a neural network: masked diffusion, autoregressive, and fill-in-the-middle."""

from textdiff.priors.autoregressive import AutoregressivePrior
from textdiff.priors.diffusion import DiffusionPrior
from textdiff.priors.fill_in_middle import FillInMiddlePrior

__all__ = ["AutoregressivePrior", "DiffusionPrior", "FillInMiddlePrior"]
