"""The prior that a network makes: autoregressive, fill-in-the-middle or masked diffusion."""

from __future__ import annotations

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.models import ForeignDenoiser, Transformer
from textdiff.priors.autoregressive import AutoregressivePrior
from textdiff.priors.diffusion import DiffusionPrior
from textdiff.priors.fill_in_middle import FillInMiddlePrior
from textdiff.text import Vocabulary

NetworkPrior = DiffusionPrior | AutoregressivePrior | FillInMiddlePrior
"""Priors whose probabilities come from a neural network."""


def prior_of(
    network: Transformer | ForeignDenoiser, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary | None = None
) -> NetworkPrior:
    """The prior that a network makes, see `NetworkPrior`.

    Args:
        network: causal, causal with fill-in-the-middle, or a denoiser.
        tokenizer: of the network.
        vocabulary: of the tokenizer, if it is known already.
    """
    if vocabulary is None:
        vocabulary = Vocabulary.of(tokenizer, null=not _lacks_null(network))
    if isinstance(network, Transformer) and network.config.fill_in_middle:
        return FillInMiddlePrior(network, tokenizer, vocabulary)
    if isinstance(network, Transformer) and network.config.causal:
        return AutoregressivePrior(network, tokenizer, vocabulary)
    return DiffusionPrior(network, tokenizer, vocabulary)


def _lacks_null(network: Transformer | ForeignDenoiser) -> bool:
    """Whether the network is a published model, which has no token for an unused slot."""
    return isinstance(network, ForeignDenoiser) and network.config.null_token_id is None


def savable_network(prior: NetworkPrior) -> PreTrainedModel:
    """The network of a prior, if its weights can be saved.

    Raises:
        TypeError: it is no such prior.
        UserError: the prior has no network, or its weights are quantized.
    """
    if not isinstance(prior, NetworkPrior):
        raise TypeError(f"prior is {prior!r:.80}, expected a prior with a network, such as textdiff.load gives")
    if not isinstance(prior.network, PreTrainedModel):
        raise UserError(f"{prior.label} has no weights to save: give a prior with a network")
    if getattr(prior.network, "is_quantized", False):
        raise UserError(f"{prior.label} is quantized, and its weights are on disk already: load it without, to save it")
    return prior.network
