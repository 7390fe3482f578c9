"""Where text comes from: text, jsonl, csv and parquet files, a data set of the Hugging Face Hub, or a world."""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from textdiff.errors import UserError
from textdiff.priors import Automaton, world
from textdiff.priors import texts as written_by

HUB = "hub:"
WORLD = "world:"
SEPARATOR = "<|endoftext|>"
_READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


def documents(sources: Sequence[str], field: str = "text") -> Iterator[str]:
    """Yield the documents of all sources, in order, blanks at their ends removed, empty ones left out.

    Args:
        sources: paths, `world:name:count[:seed]` for texts that an exact world writes (`textdiff.priors.WORLDS`), or
            `hub:owner/name[:config][@split]` for a data set of the Hub, read as a stream; the split is "train" by
            default. A `.txt` file (or `.txt.xz`) holds documents that end with a line `<|endoftext|>`; without such a
            line the file is one document.
        field: the column of a jsonl, csv, parquet or Hub source that holds the text; or several, to be joined by
            blanks: "sentence1+sentence2".

    Raises:
        UserError: a file is missing, damaged, of an unknown kind, or lacks the field.
    """
    for source in map(str, sources):
        yield from _texts(source, field, by_line=False)


def templates(sources: Sequence[str], field: str = "text") -> Iterator[str]:
    """Yield the templates of all sources, in order, empty ones left out: one in each line of a `.txt` file.

    Arguments and errors as for `documents`.
    """
    for source in map(str, sources):
        yield from _texts(source, field, by_line=True)


def check_sources(sources: Sequence[str]) -> None:
    """Look whether there are files at `sources`, without reading them.

    Raises:
        UserError: there is no source, or no file of a known kind at one.
    """
    if not sources:
        raise UserError("no source of text was given: name .txt, .jsonl, .csv or .parquet files, or hub:owner/name")
    for source in map(str, sources):
        path = Path(source)
        if source.startswith(WORLD):
            _of_world(source)
        if source.startswith((HUB, WORLD)):
            continue
        if not path.is_file():
            raise UserError(
                f"no text file at {source!r}: give the path of a .txt, .jsonl, .csv or .parquet file, or hub:owner/name"
            )
        if path.suffix not in _READERS and not _is_text(path):
            kinds = ", ".join((".txt", ".txt.xz", *_READERS))
            raise UserError(f"{source!r} ends in {path.suffix!r}: known are {kinds}")


def _texts(source: str, field: str, by_line: bool) -> Iterator[str]:
    check_sources([source])
    path = Path(source)
    try:
        if source.startswith(HUB):
            texts = _from_hub(source, field)
        elif source.startswith(WORLD):
            texts = written_by(*_of_world(source))
        elif _is_text(path):
            texts = _separated(path, by_line)
        else:
            texts = _column(_READERS[path.suffix], field, source, data_files=source)
        yield from filter(None, map(str.strip, texts))
    except UserError:
        raise
    except Exception as error:  # the readers of each kind of file raise what they like
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(f"{source!r} cannot be read ({reason}): check that it is complete and of that kind") from error


def _is_text(path: Path) -> bool:
    return path.suffix == ".txt" or path.suffixes[-2:] == [".txt", ".xz"]


def _of_world(source: str) -> tuple[Automaton, int, int]:
    """The world of a source, the number of its texts, and the seed."""
    name, *numbers = source.removeprefix(WORLD).split(":")
    if not 1 <= len(numbers) <= 2 or not all(number.isdecimal() for number in numbers) or int(numbers[0]) < 1:
        raise UserError(
            f"{source!r} is no source of a world's texts: expected world:name:count or world:name:count:seed"
        )
    return world(name), int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else 0


def _from_hub(source: str, field: str) -> Iterator[str]:
    name, _, split = source.removeprefix(HUB).partition("@")
    name, _, config = name.partition(":")
    return _column(name, field, source, name=config or None, split=split or "train")


def _column(
    reader: str, field: str, source: str, name: str | None = None, split: str = "train", data_files: str | None = None
) -> Iterator[str]:
    from datasets import load_dataset

    rows: Iterable[dict[str, object]] = load_dataset(reader, name, data_files=data_files, split=split, streaming=True)
    for row in rows:
        names = [field] if field in row else field.split("+")
        if missing := [name for name in names if name not in row]:
            raise UserError(f"{source!r} has no field {missing[0]!r}, only {', '.join(row)}: set data.field")
        parts = [row[name] for name in names]
        for name, text in zip(names, parts, strict=True):
            if not isinstance(text, str | None):
                raise UserError(f"the field {name!r} of {source!r} holds {text!r}, expected text: set data.field")
        yield " ".join(str(text).strip() if len(parts) > 1 else str(text) for text in parts if text)


def _separated(path: Path, by_line: bool) -> Iterator[str]:
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8-sig") as file:
        if by_line:
            yield from file
            return
        lines: list[str] = []
        for line in file:
            if line.strip() == SEPARATOR:
                yield "".join(lines)
                lines = []
            else:
                lines.append(line)
        yield "".join(lines)
