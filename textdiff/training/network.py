"""The transformer that pretraining starts from."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from textdiff.errors import UserError
from textdiff.models import Attention, Transformer, TransformerConfig
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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Transformer(config)
