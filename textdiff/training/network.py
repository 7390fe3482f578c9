"""The transformer that pretraining starts from."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

import torch

from textdiff.errors import UserError
from textdiff.models import Attention, Transformer, TransformerConfig
from textdiff.samplers import seed_generator
from textdiff.text import Vocabulary


@dataclass(frozen=True)
class Network:
    """Shape of a transformer with random weights; the fields are those of `TransformerConfig`."""

    causal: bool = False
    fill_in_middle: bool = False
    hidden_size: int = 256
    num_hidden_layers: int = 8
    num_attention_heads: int = 4
    intermediate_size: int | None = None
    max_position_embeddings: int = 512
    attention: Attention = "isolated"
    dropout: float = 0.0
    tie_word_embeddings: bool = True

    def build(self, vocabulary: Vocabulary, seed: int) -> Transformer:
        """A transformer for the tokens of `vocabulary`, its weights a function of `seed` alone.

        Raises:
            UserError: there is no transformer of this shape.
        """
        try:
            config = TransformerConfig(vocab_size=vocabulary.size, **vocabulary.special_ids(), **asdict(self))
        except ValueError as error:
            raise UserError(f"model.network: {error}") from error
        if not 0 <= seed < 2**63:
            raise UserError(f"model.seed is {seed}, expected 0 or more, below 2**63")
        _check_memory(config)
        with torch.random.fork_rng(devices=[]):
            seed_generator(torch.default_generator, seed)
            return Transformer(config)


def _check_memory(config: TransformerConfig) -> None:
    """Check, before any is taken, that this machine has the memory for the weights of a network.

    Raises:
        UserError: it has not.
    """
    layer = 4 * config.hidden_size**2 + 3 * config.hidden_size * config.intermediate_size
    ends = config.vocab_size * config.hidden_size * (1 if config.tie_word_embeddings else 2)
    needed = 4 * (ends + config.num_hidden_layers * layer)
    if needed > (most := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise UserError(
            f"model.network has {needed / 2**30:,.1f} GiB of weights, and this machine {most / 2**30:,.1f} GiB of "
            "memory: lower hidden_size or num_hidden_layers"
        )
