"""Tiny checkpoints with random weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from textdiff.models import Transformer, TransformerConfig
from textdiff.posterior import Prior
from textdiff.pretrained import prior_of
from textdiff.text import Vocabulary, train_tokenizer

NAMES, THINGS, VERBS = ("Lily", "Tom", "Mia", "Ben"), ("red ball", "big dog", "small boat"), ("lost", "found", "saw")
CORPUS = [f"{name} {verb} her {thing}. She was happy again." for name in NAMES for thing in THINGS for verb in VERBS]


def tiny(tokenizer: PreTrainedTokenizerBase | None = None, causal: bool = False, **changes: Any) -> Prior:
    """A prior with random weights, which are large enough for every path to matter."""
    tokenizer = train_tokenizer(CORPUS, 320) if tokenizer is None else tokenizer
    vocabulary = Vocabulary.of(tokenizer)
    special = vocabulary.special_ids()
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 512,
    } | changes
    torch.manual_seed(0)
    network = Transformer(TransformerConfig(vocab_size=vocabulary.size, causal=causal, **special, **shape))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return prior_of(network.eval(), tokenizer)


def save(prior: Prior, folder: Path) -> Path:
    """Write the checkpoint of a prior, which `textdiff.load` reads."""
    prior.network.save_pretrained(folder)
    prior.tokenizer.save_pretrained(folder)
    return folder
