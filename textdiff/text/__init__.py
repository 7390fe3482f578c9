"""Text <-> canvas: tokenizers with the special tokens of diffusion, and templates with gaps."""

from textdiff.text.canvas import Canvas
from textdiff.text.product_dfa import ProductDFA
from textdiff.text.template import DEFAULT_GAP, Filled, Gap, Template, decode_rows
from textdiff.text.token_dfa import TokenDFA
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
    "ProductDFA",
    "Template",
    "TokenDFA",
    "Vocabulary",
    "decode",
    "decode_rows",
    "encode",
    "load_tokenizer",
    "read_tokenizer",
    "train_tokenizer",
    "with_special_tokens",
]
