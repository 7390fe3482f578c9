"""Priors: laws over texts that fill gaps, all behind one interface."""

from textdiff.priors.autoregressive import AutoregressivePrior
from textdiff.priors.diffusion import DiffusionPrior
from textdiff.priors.load import load, prior_of, shipped
from textdiff.priors.prior import Fills, Prior

__all__ = ["AutoregressivePrior", "DiffusionPrior", "Fills", "Prior", "load", "prior_of", "shipped"]
