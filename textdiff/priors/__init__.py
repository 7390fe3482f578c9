"""Priors: laws over texts that can be conditioned on evidence, all behind one interface; some are exact worlds."""

from textdiff.priors.automaton import Automaton
from textdiff.priors.autoregressive import AutoregressivePrior
from textdiff.priors.diffusion import DiffusionPrior
from textdiff.priors.hub import model_card, push_to_hub, save
from textdiff.priors.load import NetworkPrior, convert, described, load, prior_of, shipped
from textdiff.priors.middle import FillInMiddlePrior
from textdiff.priors.posterior import Conditioning, Posterior, PosteriorSampler
from textdiff.priors.prior import Prior, TractablePrior
from textdiff.priors.samples import Genealogy, Scored, WeightedSamples, relative_variance, seeded
from textdiff.priors.sentences import arithmetic, grammar, sums
from textdiff.priors.stream import Draft
from textdiff.priors.together import infill_together
from textdiff.priors.worlds import WORLDS, hmm, ngram, table, texts, walk, world

__all__ = [
    "WORLDS",
    "Automaton",
    "AutoregressivePrior",
    "Conditioning",
    "DiffusionPrior",
    "Draft",
    "FillInMiddlePrior",
    "Genealogy",
    "NetworkPrior",
    "Posterior",
    "PosteriorSampler",
    "Prior",
    "Scored",
    "TractablePrior",
    "WeightedSamples",
    "arithmetic",
    "convert",
    "described",
    "grammar",
    "hmm",
    "infill_together",
    "load",
    "model_card",
    "ngram",
    "prior_of",
    "push_to_hub",
    "relative_variance",
    "save",
    "seeded",
    "shipped",
    "sums",
    "table",
    "texts",
    "walk",
    "world",
]
