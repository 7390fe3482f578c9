"""Tokenizers: a byte-level BPE trained on your text, or any of Hugging Face's, with the five special tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from textdiff.errors import UserError, reason
from textdiff.files import as_path, check_plain, read_json
from textdiff.files.fields import FLAG, check_fields, choice, number
from textdiff.text.quiet import quiet

SPECIAL_TOKENS = {f"{name}_token": f"<|{name}|>" for name in ("pad", "mask", "bos", "eos", "null")}

FILES = ("*.json", "*.txt", "*.model", "*.jinja")
"""Patterns of the files that tokenizers are read from."""
MOST_BYTES = 2**27
"""Of such a file."""
FIELDS = {
    "model_max_length": number(lambda value: value > 0, "a number of tokens"),
    "padding_side": choice("left", "right"),
    "truncation_side": choice("left", "right"),
    "split_special_tokens": FLAG,
    "verbose": FLAG,
}
"""What settings of a tokenizer may be."""
_ADDED_TOKEN = {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}
"""Settings of a token in `tokenizer.json`."""
SAMPLE = "Once upon a time, "

_ANCHOR = "."
"""Text put before a text that continues another one, and cut off again.

Whatever a tokenizer does to the beginning of a text (SentencePiece adds a blank) is then done to the anchor."""

MOST_TOKENS = 2**20
"""In a tokenizer that is trained here; the library that trains it takes room for as many as it is asked for."""


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> PreTrainedTokenizerFast:
    """Train byte-level BPE on `texts`; every Unicode text survives encoding and decoding unchanged.

    Args:
        texts: the corpus, iterated over once.
        vocab_size: the largest number of token ids, the 256 bytes and the 5 special tokens included.

    Raises:
        TypeError: an argument is of another type.
        UserError: `vocab_size` leaves no room for the bytes and the special tokens, or is more than `MOST_TOKENS`.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    least = len(alphabet) + len(SPECIAL_TOKENS)
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise TypeError(f"texts is {texts!r:.80}, expected texts, such as a list of strings")
    if not isinstance(vocab_size, int) or isinstance(vocab_size, bool):
        raise TypeError(f"vocab_size is {vocab_size!r:.80}, expected a whole number")
    if vocab_size < least:
        raise UserError(f"vocab_size is {vocab_size}, but bytes and special tokens take {least}: ask for more.")
    if vocab_size > MOST_TOKENS:
        raise UserError(
            f"vocab_size is {vocab_size!r:.40}, but at most {MOST_TOKENS:,} tokens are trained here: ask for less."
        )
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
    folder = as_path(path_or_name, "the tokenizer")
    expected = "expected a folder written by save_pretrained, or a name on the Hub"
    if len(folder.parts) > 1 and folder.parent.is_dir() and not folder.is_dir():
        raise UserError(f"there is no folder {str(folder)!r}: {expected}.")
    with _readable(folder, expected):
        tokenizer = AutoTokenizer.from_pretrained(path_or_name, trust_remote_code=False)
        _check(tokenizer)
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
    with _readable(folder, "copy the checkpoint again"):
        tokenizer = loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        _check(tokenizer)
    tokenizer.init_kwargs.pop("auto_map", None)  # or it would be saved along
    return tokenizer


@contextmanager
def _readable(folder: Path, fix: str) -> Iterator[None]:
    """A context in which a tokenizer is read, if its files are plain ones of a bounded size; errors take one line."""
    try:
        for pattern in FILES:
            for file in folder.glob(pattern):
                check_plain(file, MOST_BYTES)
        if (whole := folder / "tokenizer.json").exists():
            _check_file(read_json(whole, MOST_BYTES))
        with quiet():  # transformers warns where the files name a class of their own
            yield
    except BaseException as error:  # the backend raises bare exceptions on damaged files, and panics
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError):
            raise
        raise UserError(f"no tokenizer could be read from {str(folder)!r} ({reason(error)}): {fix}") from error


def _check_file(content: Any) -> None:
    """Refuse what the backend does not raise an error for: it prints, or ends in a panic.

    Raises:
        UserError: a `tokenizer.json` with this content is damaged.
    """
    try:
        for token in content.get("added_tokens") or []:
            if strange := token.keys() - _ADDED_TOKEN:
                raise UserError(f"an added token has a setting {min(strange)!r:.40}")
        model = content["model"]
        if prefix := model.get("continuing_subword_prefix"):
            pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges") or [])
            if not all(second.startswith(prefix) for _, second in pairs):
                raise UserError(f"not all merges continue with {prefix!r:.40}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"tokenizer.json is damaged ({reason(error)})") from error


def _check(tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that the ids of a tokenizer are those of a vocabulary, and that it can be used.

    Raises:
        UserError: its ids have large holes, for which memory would be taken, or a setting has a wrong type.
    """
    ids = tokenizer.get_vocab().values()
    if not ids or max(ids) >= 2 * len(ids) + 2**16:
        raise UserError(f"it has {len(ids)} tokens, and ids up to {max(ids, default=0)}")
    check_fields(vars(tokenizer), FIELDS)
    decode(tokenizer, [*encode(tokenizer, SAMPLE), *tokenizer.all_special_ids])


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
