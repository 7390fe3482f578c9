"""Tokenizers: a byte-level BPE trained on your text, or any of Hugging Face's, with the five special tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from textdiff.errors import UserError

SPECIAL_TOKENS = {f"{name}_token": f"<|{name}|>" for name in ("pad", "mask", "bos", "eos", "null")}

_ANCHOR = "."
"""Text put before a text that continues another one, and cut off again.

Whatever a tokenizer does to the beginning of a text (SentencePiece adds a blank) is then done to the anchor."""


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> PreTrainedTokenizerFast:
    """Train byte-level BPE on `texts`; every Unicode text survives encoding and decoding unchanged.

    Args:
        texts: the corpus, iterated over once.
        vocab_size: the largest number of token ids, the 256 bytes and the 5 special tokens included.

    Raises:
        UserError: `vocab_size` leaves no room for the bytes and the special tokens.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    least = len(alphabet) + len(SPECIAL_TOKENS)
    if vocab_size < least:
        raise UserError(f"vocab_size is {vocab_size}, but bytes and special tokens take {least}: ask for more.")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, split_special_tokens=True, **SPECIAL_TOKENS)


def load_tokenizer(path_or_name: str | PathLike[str]) -> PreTrainedTokenizerBase:
    """Load the tokenizer in a folder or on the Hugging Face Hub, and add the special tokens that it lacks.

    Raises:
        UserError: there is none, or its files are damaged.
    """
    folder, expected = Path(path_or_name), "expected a folder written by save_pretrained, or a name on the Hub"
    if len(folder.parts) > 1 and folder.parent.is_dir() and not folder.is_dir():
        raise UserError(f"there is no folder {str(folder)!r}: {expected}.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path_or_name, trust_remote_code=False)
    except Exception as error:  # the backend raises bare exceptions on damaged files
        raise UserError(
            f"no tokenizer could be read from {str(path_or_name)!r} ({_reason(error)}): {expected}."
        ) from error
    return with_special_tokens(tokenizer)


def read_tokenizer(folder: Path, kind: str | None = None) -> PreTrainedTokenizerBase:
    """Load the tokenizer in a folder as it was published: no special token is added.

    Args:
        folder: holds its files; the code that they may ask for is not run.
        kind: name of the class of transformers to load it with where `tokenizer.json` does not hold everything; None:
            the class that the files name.

    Raises:
        UserError: there is none, or its files are damaged.
    """
    if kind is not None and (folder / "tokenizer.json").is_file():
        kind = "PreTrainedTokenizerFast"  # everything is in there, whatever the class
    loader = AutoTokenizer if kind is None else getattr(transformers, kind)
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # it warns where the files name a class of their own
    try:
        tokenizer = loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the backend raises bare exceptions on damaged files
        raise UserError(
            f"no tokenizer could be read from {str(folder)!r} ({_reason(error)}): copy the checkpoint again"
        ) from error
    finally:
        transformers.logging.set_verbosity(verbosity)
    tokenizer.init_kwargs.pop("auto_map", None)  # or it would be saved along
    return tokenizer


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(":. ")


def with_special_tokens(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Add to a tokenizer, in place, what it lacks of pad, mask, bos, eos and null; `cls` and `sep` serve as bos, eos.

    Where padding shares a token with bos, eos or mask it gets its own, so that the ends of texts can be seen.

    `null_token` and `null_token_id` become attributes like the others and survive `save_pretrained`. New ids may exceed
    the rows of a pretrained embedding, which then has to be resized to `len(tokenizer)`.
    """
    known = tokenizer.SPECIAL_TOKENS_ATTRIBUTES
    tokenizer.SPECIAL_TOKENS_ATTRIBUTES = list(dict.fromkeys([*known, *SPECIAL_TOKENS]))
    stand_ins = {"bos_token": tokenizer.cls_token, "eos_token": tokenizer.sep_token}
    tokenizer.add_special_tokens(
        {
            name: stand_ins.get(name) or literal
            for name, literal in SPECIAL_TOKENS.items()
            if getattr(tokenizer, name) is None
        }
    )
    if tokenizer.pad_token in (tokenizer.bos_token, tokenizer.eos_token, tokenizer.mask_token):
        tokenizer.add_special_tokens({"pad_token": SPECIAL_TOKENS["pad_token"]})
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerBase, text: str, continues: bool = False) -> list[int]:
    """Token ids of `text` as plain content: no special token is added, and none is recognised in the text.

    Args:
        continues: other text comes before, so a tokenizer that puts a blank before every text must not do so here.
    """

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"])

    plain = ids(text)
    if not continues or decode(tokenizer, plain, continues=True) == text:
        return plain
    anchor, anchored = ids(_ANCHOR), ids(_ANCHOR + text)
    return anchored[len(anchor) :] if anchored[: len(anchor)] == anchor else plain


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], continues: bool = False) -> str:
    """Text of token ids, special tokens left out; bytes that are no Unicode become U+FFFD.

    Args:
        continues: other text comes before, so a blank at the beginning is kept by every tokenizer.
    """
    return decode_each(tokenizer, [ids], continues)[0]


def decode_each(
    tokenizer: PreTrainedTokenizerBase, rows: Iterable[Sequence[int]], continues: bool = False
) -> list[str]:
    """`decode` of each of several rows of token ids."""

    def text(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    if not continues:
        return [text(ids) for ids in rows]
    anchor = encode(tokenizer, _ANCHOR)
    start = len(text(anchor))
    return [text([*anchor, *ids])[start:] for ids in rows]
