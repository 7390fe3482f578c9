"""Networks with random weights, and texts for them: enough to measure seconds, which do not depend on the weights."""

from __future__ import annotations

from typing import Any

import torch

from textdiff.errors import UserError
from textdiff.models import Transformer, TransformerConfig
from textdiff.posterior import seeded
from textdiff.text import Canvas, Vocabulary


def networks(vocabulary: int, length: int, layers: int = 6, width: int = 256) -> tuple[Transformer, Transformer]:
    """A denoiser and its AR baseline with random weights, by default in the shape of the shipped `stories`.

    Args:
        vocabulary: its size; the last five ids are pad, mask, bos, eos and null.
        length: most tokens in a text.
        layers, width: number of blocks, and width of the hidden states.

    Raises:
        UserError: there is no room for content in the vocabulary.
    """
    if vocabulary < 8:
        raise UserError(f"a vocabulary of {vocabulary} tokens is too small: 8 or more")
    names = ("pad", "mask", "bos", "eos", "null")
    special: dict[str, Any] = {f"{name}_token_id": vocabulary - 5 + number for number, name in enumerate(names)}

    def network(causal: bool) -> Transformer:
        config = TransformerConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // 64),
            max_position_embeddings=length,
            causal=causal,
            **special,
        )
        return Transformer(config).eval()

    return network(False), network(True)


def vocabulary_of(network: Transformer) -> Vocabulary:
    """The vocabulary of a network without a tokenizer, in which each token stands for one character."""
    config, ids = network.config, torch.arange(network.config.vocab_size)
    never = [config.pad_token_id, config.mask_token_id, config.bos_token_id, config.eos_token_id]
    special = torch.isin(ids, torch.tensor([*never, config.null_token_id]))
    return Vocabulary(
        size=config.vocab_size,
        mask=config.mask_token_id,
        pad=config.pad_token_id,
        bos=config.bos_token_id,
        eos=config.eos_token_id,
        null=config.null_token_id,
        forbidden=torch.isin(ids, torch.tensor(never)),
        characters=(~special).long(),
        starts_word=ids < 0,
        breaks_line=ids < 0,
        ends_sentence=ids < 0,
    )


def random_canvas(vocabulary: Vocabulary, texts: int, length: int, gap: int, seed: int = 0) -> Canvas:
    """Texts of random content between bos and eos, with a gap in the middle.

    Raises:
        UserError: the gap does not fit.
    """
    if length < gap + 4:
        raise UserError(f"a text of {length} tokens has no room for a gap of {gap}: lengthen it")
    content = ((vocabulary.characters > 0) & ~vocabulary.forbidden).nonzero()[:, 0]
    tokens = content[torch.randint(len(content), (texts, length), generator=seeded(seed))]
    assert vocabulary.bos is not None and vocabulary.eos is not None
    tokens[:, 0], tokens[:, -1] = vocabulary.bos, vocabulary.eos
    start = (length - gap) // 2
    tokens[:, start : start + gap] = vocabulary.mask
    return Canvas.of(tokens, vocabulary.mask)
