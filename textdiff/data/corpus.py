"""A tokenised text collection on disk: written once, then memory-mapped."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from textdiff.data.sources import Source, documents, parse_sources
from textdiff.files import atomically

READERS = 2
"""Version of the code that reads files: text that an older one has read is not taken from the cache."""

LONGEST_PART, LONGEST_BATCH = 2**18, 2**20
"""Characters of a text, and of several, that are tokenised in one call."""

_SEAM = re.compile(r"(?<=\w) (?=\w)")


@dataclass(frozen=True)
class Corpus:
    """Documents as token ids, each between bos and eos, end to end in one array.

    Attributes:
        tokens: ids `[total]`, memory-mapped.
        offsets: `[documents + 1]`; document d is `tokens[offsets[d] : offsets[d + 1]]`.
    """

    tokens: NDArray[np.unsignedinteger]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, document: int) -> NDArray[np.int64]:
        """Ids `[length]` of one document, bos and eos included."""
        return self.tokens[self.offsets[document] : self.offsets[document + 1]].astype(np.int64)


def encoded(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, at_once: int = 256
) -> Iterator[NDArray[np.uint32]]:
    """Ids of each text between bos and eos; special tokens that are spelt out in a text are tokenised as text.

    Of a long text parts are tokenised, whose ids are those of the whole, see `parts_of`: a tokenizer needs some 200
    bytes of memory for a character.

    Args:
        texts: documents.
        tokenizer: has bos and eos.
        at_once: documents tokenised in one call, at most.
    """
    whole, first, second = _ids(tokenizer, ["a b", "a", " b"])
    parts = parts_of if whole == [*first, *second] else _whole  # some put a blank of their own before every text
    document: list[NDArray[np.uint32]] = []
    for some in _batches((item for text in texts for item in parts(text)), at_once):
        for ids, (_, last) in zip(_ids(tokenizer, [part for part, _ in some]), some, strict=True):
            document.append(np.asarray(ids, np.uint32))
            if last:
                yield np.concatenate([[tokenizer.bos_token_id], *document, [tokenizer.eos_token_id]]).astype(np.uint32)
                document = []


def parts_of(text: str, longest: int = LONGEST_PART) -> Iterator[tuple[str, bool]]:
    """Cut a text where no token reaches across: before a blank between words; and whether each part is the last one.

    Args:
        text: of any length.
        longest: characters in a part, at most; where it has no such blank at its end, it is cut off there.
    """
    start = 0
    while len(text) - start > longest:
        stop = start + longest
        seams = [found.start() for found in _SEAM.finditer(text, max(start + 1, stop - 1024), stop)]
        stop = seams[-1] if seams else stop
        yield text[start:stop], False
        start = stop
    yield text[start:], True


def _whole(text: str) -> Iterator[tuple[str, bool]]:
    yield text, True


def _batches(parts: Iterable[tuple[str, bool]], at_once: int) -> Iterator[list[tuple[str, bool]]]:
    """Lists of at most `at_once` parts, and of some `LONGEST_BATCH` characters."""
    some: list[tuple[str, bool]] = []
    size = 0
    for part in parts:
        some.append(part)
        size += len(part[0])
        if len(some) == at_once or size >= LONGEST_BATCH:
            yield some
            some, size = [], 0
    if some:
        yield some


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    found = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return [list(ids) for ids in found]


def in_memory(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> Corpus:
    """Tokenise a few texts, without a cache."""
    ids = list(encoded(texts, tokenizer))
    return Corpus(np.concatenate([*ids, np.empty(0, np.uint32)]), np.cumsum([0, *map(len, ids)], dtype=np.int64))


def load_corpus(
    sources: Sequence[str | Source], tokenizer: PreTrainedTokenizerBase, cache: str | Path, field: str = "text"
) -> Corpus:
    """Tokenise `sources` into the folder `cache`, or map what an earlier call has saved there.

    The key of a cache entry covers the files' paths, sizes and times, the field and the tokenizer, so that a change of
    any of them makes a new entry; a dataset on the Hub is identified by its name. Any number of processes may call this
    at once.

    Raises:
        UserError: a source cannot be read, or there is no document in any.
    """
    stem = Path(cache).expanduser() / _key(sources, tokenizer, field)
    tokens, offsets = stem.with_suffix(".tokens"), stem.with_suffix(".offsets.npy")
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    if (kept := _mapped(tokens, offsets, dtype)) is not None:
        return kept
    ends = [0]
    with atomically(tokens) as file:
        for ids in encoded(documents(sources, field), tokenizer):
            file.write(ids.astype(dtype).tobytes())
            ends.append(ends[-1] + len(ids))
    with atomically(offsets) as file:
        np.save(file, np.asarray(ends, dtype=np.int64))
    return Corpus(np.memmap(tokens, dtype, "r"), np.load(offsets))


def _mapped(tokens: Path, offsets: Path, dtype: type[np.unsignedinteger]) -> Corpus | None:
    """What an earlier call has saved; None: nothing, or files that have been damaged since."""
    try:
        ends = np.load(offsets)
        corpus = Corpus(np.memmap(tokens, dtype, "r"), ends)
    except (OSError, ValueError, EOFError):
        return None
    whole = ends.dtype == np.int64 and ends.ndim == 1 and len(ends) > 1 and ends[0] == 0
    return corpus if whole and ends[-1] == len(corpus.tokens) and (np.diff(ends) > 0).all() else None


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of everything that determines how a tokenizer encodes text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    for state in ("padding", "truncation"):  # state of the last call
        rules.pop(state, None)
    content = [type(tokenizer).__name__ if backend is None else "", rules, tokenizer.bos_token, tokenizer.eos_token]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _key(sources: Sequence[str | Source], tokenizer: PreTrainedTokenizerBase, field: str) -> str:
    known = [[source.name, *source.version()] for source in parse_sources(sources)]
    return hashlib.sha256(json.dumps([READERS, known, fingerprint(tokenizer), field]).encode()).hexdigest()[:16]
