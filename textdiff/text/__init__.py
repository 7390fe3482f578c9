"""Text <-> canvas: tokenizers with the special tokens of diffusion, and templates with gaps."""

from textdiff.text.canvas import Canvas
from textdiff.text.machine import Lattice, Machine
from textdiff.text.template import DEFAULT_GAP, Filled, Gap, Template, read_rows
from textdiff.text.tokenizer import (
    SPECIAL_TOKENS,
    decode,
    encode,
    load_tokenizer,
    read_tokenizer,
    train_tokenizer,
    with_special_tokens,
)
from textdiff.text.vocabulary import Vocabulary

__all__ = [
    "DEFAULT_GAP",
    "SPECIAL_TOKENS",
    "Canvas",
    "Filled",
    "Gap",
    "Lattice",
    "Machine",
    "Template",
    "Vocabulary",
    "decode",
    "encode",
    "load_tokenizer",
    "read_rows",
    "read_tokenizer",
    "train_tokenizer",
    "with_special_tokens",
]
