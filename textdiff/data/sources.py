"""Where text comes from: files, a data set of the Hugging Face Hub, a world, or the dreams of a prior."""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from textdiff.errors import UserError
from textdiff.evidence.question import one_line
from textdiff.posterior import Simulates, seeded
from textdiff.pretrained import load
from textdiff.text import decode
from textdiff.worlds import sums, world
from textdiff.worlds import texts as written_by
from textdiff.worlds.arithmetic import Part
from textdiff.worlds.catalog import SEPARATOR

HUB = "hub:"
WORLD = "world:"
PRIOR = "prior:"
QUESTIONS = "questions:"
MARK = "####"
"""Parts the reasoning from the answer where both stand in one field, as in GSM8K (arXiv:2110.14168)."""
_READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


def documents(sources: Sequence[str], field: str = "text") -> Iterator[str]:
    """Yield the documents of all sources, in order, blanks at their ends removed, empty ones left out.

    Args:
        sources: paths, or one of these. `world:name:count[:seed]`: texts that an exact world writes
            (`textdiff.worlds.WORLDS`); `world:arithmetic-4-test:count` writes sums of the tenth of all questions that
            `world:arithmetic-4-train:count` never asks. `prior:folder:count[:seed]`: texts that an autoregressive
            checkpoint dreams, the shipped `stories-ar` for instance; those too long for it are left out.
            `hub:owner/name[:config][@split]`: a data set of the Hub, read as a stream, the split "train" by default.
            `questions:path`: a jsonl, csv or parquet file of questions, whose fields `context`, `question`, `rationale`
            and `answer` become a line each, in this order; context and rationale may be missing, and what stands before
            `####` in an answer is its rationale.
            A `.txt` file (or `.txt.xz`) holds documents that end with a line `<|endoftext|>`; without such a line the
            file is one document.
        field: the column of a jsonl, csv, parquet or Hub source that holds the text; or several, to be joined by
            blanks: "sentence1+sentence2".

    Raises:
        UserError: a file is missing, damaged, of an unknown kind, or lacks the field.
    """
    for source in map(str, sources):
        check_sources([source])
        with readable(source):
            yield from filter(None, map(str.strip, _texts(source, field)))


def templates(sources: Sequence[str], field: str = "text") -> Iterator[str]:
    """Yield the templates of all sources, in order, empty ones left out: one in each line of a `.txt` file.

    Arguments and errors as for `documents`.
    """
    for source in map(str, sources):
        check_sources([source])
        with readable(source):
            texts = lines(source) if is_text(source) else _texts(source, field)
            yield from filter(None, map(str.strip, texts))


def check_sources(sources: Sequence[str]) -> None:
    """Look whether there are files at `sources`, without reading them.

    Raises:
        UserError: there is no source, or no file of a known kind at one.
    """
    if not sources:
        raise UserError("no source of text was given: name .txt, .jsonl, .csv or .parquet files, or hub:owner/name")
    for source in map(str, sources):
        path = Path(source.removeprefix(QUESTIONS))
        if source.startswith(WORLD):
            _written(*numbered(source, WORLD))
        if source.startswith(PRIOR):
            numbered(source, PRIOR)
        if source.startswith((HUB, WORLD, PRIOR)):
            continue
        if not path.is_file():
            raise UserError(
                f"no text file at {str(path)!r}: give the path of a .txt, .jsonl, .csv or .parquet file, "
                "or hub:owner/name"
            )
        if path.suffix not in _READERS and (source.startswith(QUESTIONS) or not is_text(source)):
            kinds = ", ".join(_READERS if source.startswith(QUESTIONS) else (".txt", ".txt.xz", *_READERS))
            raise UserError(f"{source!r} ends in {path.suffix!r}: known are {kinds}")


@contextmanager
def readable(source: str) -> Iterator[None]:
    """A context in which whatever a reader raises is told as a mistake about `source`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the readers of each kind of file raise what they like
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(f"{source!r} cannot be read ({reason}): check that it is complete and of that kind") from error


def _texts(source: str, field: str) -> Iterator[str]:
    if source.startswith(WORLD):
        return _written(*numbered(source, WORLD))
    if source.startswith(PRIOR):
        return _model_samples(*numbered(source, PRIOR))
    if source.startswith(QUESTIONS):
        return _asked(source)
    if is_text(source):
        return _separated(source)
    return (text_of(row, field, source) for row in rows(source))


def is_text(source: str) -> bool:
    """Whether a source is a file of plain text."""
    return source.endswith((".txt", ".txt.xz"))


def numbered(source: str, kind: str) -> tuple[str, int, int]:
    """Of a source `kind` + "name:count[:seed]": who writes, the number of texts, and the seed.

    Raises:
        UserError: it is none.
    """
    name, *numbers = source.removeprefix(kind).split(":")
    if not 1 <= len(numbers) <= 2 or not all(number.isdecimal() for number in numbers) or int(numbers[0]) < 1:
        raise UserError(f"{source!r} is no source of texts: expected {kind}name:count or {kind}name:count:seed")
    return name, int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else 0


def _model_samples(folder: str, n: int, seed: int, at_once: int = 64) -> Iterator[str]:
    """Whole texts that an autoregressive prior draws, side by side."""
    prior = load(folder)
    if not isinstance(prior, Simulates):
        raise UserError(f"{folder!r} writes no texts from left to right: name an autoregressive checkpoint")
    generator = seeded(seed)
    while n > 0:
        rows = prior.simulate(at_once, generator).tolist()
        whole = [row for row in rows if prior.vocabulary.eos in row]
        yield from (decode(prior.tokenizer, row) for row in whole[:n])
        n -= len(whole)


def _written(name: str, n: int, seed: int) -> Iterator[str]:
    """Texts of a world; of worked sums without a list of its states, which from 5 operands on is too long."""
    if sum_of := re.fullmatch(r"arithmetic(?:-(\d+))?(?:-(train|test))?", name):
        return sums(int(sum_of[1] or 3), n=n, generator=seed, part=cast(Part | None, sum_of[2]))
    return written_by(world(name), n, seed)


def _asked(source: str) -> Iterator[str]:
    """Question, rationale and answer of each row, a line each."""
    for row in rows(source.removeprefix(QUESTIONS)):
        fields = {name: row.get(name) or "" for name in ("context", "question", "rationale", "answer")}
        for name, text in fields.items():
            if not isinstance(text, str) or (name in ("question", "answer") and not text.strip()):
                raise UserError(f"the field {name!r} of {source!r} holds {text!r}, expected text")
        before, mark, answer = str(fields["answer"]).rpartition(MARK)
        fields |= {"rationale": before or fields["rationale"], "answer": answer} if mark else {}
        yield "\n".join(line for text in fields.values() if (line := one_line(str(text))))


def rows(source: str) -> Iterable[dict[str, Any]]:
    """The rows of a jsonl, csv or parquet file, or of a data set of the Hub, read as a stream."""
    from datasets import load_dataset

    found: Iterable[dict[str, Any]]
    if source.startswith(HUB):
        whole, _, split = source.removeprefix(HUB).partition("@")
        name, _, config = whole.partition(":")
        found = load_dataset(name, config or None, data_files=None, split=split or "train", streaming=True)
    else:
        found = load_dataset(_READERS[Path(source).suffix], None, data_files=source, split="train", streaming=True)
    return found


def text_of(row: Mapping[str, Any], field: str, source: str) -> str:
    """The text in a field of a row, or in several that are joined: "sentence1+sentence2".

    Raises:
        UserError: there is no such field, or no text in it.
    """
    names = [field] if field in row else field.split("+")
    if missing := [name for name in names if name not in row]:
        raise UserError(f"{source!r} has no field {missing[0]!r}, only {', '.join(row)}: set data.field")
    parts = [row[name] for name in names]
    for name, text in zip(names, parts, strict=True):
        if not isinstance(text, str | None):
            raise UserError(f"the field {name!r} of {source!r} holds {text!r}, expected text: set data.field")
    return " ".join(str(text).strip() if len(parts) > 1 else str(text) for text in parts if text)


def lines(source: str) -> Iterator[str]:
    """The lines of a file of text, which may be compressed."""
    with (lzma.open if source.endswith(".xz") else open)(source, "rt", encoding="utf-8-sig") as file:
        yield from file


def _separated(source: str) -> Iterator[str]:
    """The documents of a file of text."""
    document: list[str] = []
    for line in lines(source):
        if line.strip() == SEPARATOR:
            yield "".join(document)
            document = []
        else:
            document.append(line)
    yield "".join(document)
