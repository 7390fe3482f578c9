"""Tokenizers of worlds: their tokens are given literally."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from textdiff.text import with_special_tokens


def symbol_tokenizer(symbols: Sequence[str]) -> PreTrainedTokenizerBase:
    """A tokenizer with the given tokens, blanks included: text is cut into the fewest of them."""
    pieces = [("<|unk|>", 0.0), *((symbol, -1.0) for symbol in symbols)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    backend.decoder = decoders.Fuse()
    plain = PreTrainedTokenizerFast(tokenizer_object=backend, split_special_tokens=True, unk_token="<|unk|>")
    return with_special_tokens(plain)
