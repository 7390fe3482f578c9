"""The properties of token ids that sampling and training need: which are special, and the text of the others."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from textdiff.text.tokenizer import decode

SENTENCE_END = re.compile(rb"[.!?][\"')\]]*\s*$")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Token ids and their properties.

    Attributes:
        size: number of token ids.
        mask, pad, bos, eos, null: the special ids; only `mask` is always there.
        forbidden: `[size]` bool, ids that are never content: every special token but null, and ids without a token.
        characters: `[size]` long, number of characters whose first byte is in each token (the bytes of a character may
            be spread over tokens), so that they sum to the length of the text; 0 for special tokens.
        starts_word: `[size]` bool, the token begins with a blank (U+0020).
        breaks_line: `[size]` bool, there is a newline in the token.
        ends_sentence: `[size]` bool, the token ends with a full stop, question mark or exclamation mark, or with quotes
            and brackets that close after one.
    """

    size: int
    mask: int
    pad: int | None
    bos: int | None
    eos: int | None
    null: int | None
    forbidden: Tensor
    characters: Tensor
    starts_word: Tensor
    breaks_line: Tensor
    ends_sentence: Tensor

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, null: bool = True) -> Vocabulary:
        """The vocabulary of a tokenizer that has the five special tokens (`with_special_tokens`).

        Args:
            tokenizer: has the special tokens.
            null: whether the model was trained with the null token; many published models were not.
        """
        contents = token_bytes(tokenizer)
        forbidden = torch.tensor([content is None for content in contents])
        forbidden[tokenizer.null_token_id] = not null
        return cls(
            size=len(contents),
            mask=int(tokenizer.mask_token_id),
            pad=int(tokenizer.pad_token_id),
            bos=int(tokenizer.bos_token_id),
            eos=int(tokenizer.eos_token_id),
            null=int(tokenizer.null_token_id) if null else None,
            forbidden=forbidden,
            characters=torch.tensor([sum(byte & 0xC0 != 0x80 for byte in content or b"") for content in contents]),
            starts_word=torch.tensor([(content or b"").startswith(b" ") for content in contents]),
            breaks_line=torch.tensor([b"\n" in (content or b"") for content in contents]),
            ends_sentence=torch.tensor([SENTENCE_END.search(content or b"") is not None for content in contents]),
        )

    @classmethod
    def toy(cls, symbols: int = 4, null: bool = False) -> Vocabulary:
        """A vocabulary for tests: `symbols` content ids of one character each, then mask, then null if wanted.

        Even symbols start words.
        """
        size = symbols + 1 + null
        ids = torch.arange(size)
        return cls(
            size=size,
            mask=symbols,
            pad=None,
            bos=None,
            eos=None,
            null=symbols + 1 if null else None,
            forbidden=ids == symbols,
            characters=(ids < symbols).long(),
            starts_word=(ids < symbols) & (ids % 2 == 0),
            breaks_line=ids < 0,
            ends_sentence=ids < 0,
        )

    def special_ids(self) -> dict[str, Any]:
        """The special ids by the names that configs of transformers and of textdiff give them: `mask_token_id` etc."""
        return {f"{name}_token_id": getattr(self, name) for name in ("pad", "bos", "eos", "mask", "null")}

    def to(self, device: torch.device | str) -> Vocabulary:
        """The same vocabulary with its tensors on `device`."""
        return replace(
            self,
            forbidden=self.forbidden.to(device),
            characters=self.characters.to(device),
            starts_word=self.starts_word.to(device),
            breaks_line=self.breaks_line.to(device),
            ends_sentence=self.ends_sentence.to(device),
        )


def token_bytes(tokenizer: PreTrainedTokenizerBase) -> list[bytes | None]:
    """The UTF-8 bytes that each token adds to a text it continues; None for special tokens and for ids without a token.

    Understands byte-level vocabularies (each byte written as a printable character), SentencePiece's byte fallback
    (`<0xE2>`), and otherwise asks the tokenizer to decode.
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    byte_level = vocabulary.keys() >= set(ByteLevel.alphabet())
    added = tokenizer.added_tokens_decoder
    special = {*tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)}
    contents: list[bytes | None] = [None] * (max(vocabulary.values()) + 1)
    for token, i in vocabulary.items():
        if i in special:
            continue
        if i in added:
            contents[i] = token.encode()
        elif byte_level:
            contents[i] = bytes(byte_of[character] for character in token)
        elif fallback := re.fullmatch("<0x([0-9A-F]{2})>", token):
            contents[i] = bytes.fromhex(fallback[1])
        else:
            contents[i] = decode(tokenizer, [i], continues=True).encode()
    return contents
