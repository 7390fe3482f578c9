"""The documents and templates of several sources, one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from textdiff.data.sources.parse import parse_sources
from textdiff.data.sources.source import Source, readable
from textdiff.data.sources.text_file import TextFile
from textdiff.errors import UserError


def documents(sources: Sequence[str | Source], field: str = "text") -> Iterator[str]:
    """Yield the documents of all sources in order, stripped of white space at both ends, without empty ones.

    Args:
        sources: sources, or their shorthand, see `parse_source`.
        field: the column of a jsonl, csv, parquet or Hub source that holds the text; or several, to be joined by
            blanks: "sentence1+sentence2".

    Raises:
        UserError: a file is missing, damaged, of an unknown kind, or lacks the field; or there is no document in any.
    """
    empty = True
    for source in parse_sources(sources):
        source.check()
        with readable(source.name):
            for text in filter(None, map(str.strip, source.texts(field))):
                empty = False
                yield text
    if empty and sources:
        raise UserError(f"no document in {source_names(sources)}: the files are empty")


def templates(sources: Sequence[str | Source], field: str = "text") -> Iterator[str]:
    """Yield the templates of all sources in order, without empty ones: one in each line of a `.txt` file.

    Arguments and errors as for `documents`.
    """
    for source in parse_sources(sources):
        source.check()
        with readable(source.name):
            yield from filter(
                None, map(str.strip, _lines(source) if isinstance(source, TextFile) else source.texts(field))
            )


def _lines(source: TextFile) -> Iterator[str]:
    """The lines of a file that are not blank."""
    for entry in source.entries():
        row = source.parse(entry, "")
        if row.error is not None:
            raise UserError(row.error)
        yield row.template


def check_sources(sources: Sequence[str | Source], option: str = "data.train") -> None:
    """Check that sources exist and that not all of them are empty files, without reading them.

    Args:
        sources: sources, or their shorthand, see `parse_source`.
        option: where a user names them, for the message.

    Raises:
        UserError: there is no source, no file of a known kind at one, or nothing in any of the files.
    """
    if not sources:
        raise UserError(
            f"no source of text was given: set {option} to .txt, .jsonl, .csv or .parquet files, or to hub:owner/name"
        )
    found = list(parse_sources(sources))
    for source in found:
        source.check()
    paths = [path for source in found if isinstance(path := getattr(source, "path", None), str)]
    if len(paths) == len(found) and not any(map(os.path.getsize, paths)):
        raise UserError(f"there is nothing in {source_names(sources)}: the files are empty")


def source_name(source: str | Source) -> str:
    """The name of a source, for messages; of a file its path."""
    return source.name if isinstance(source, Source) else str(source)


def source_names(sources: Sequence[str | Source]) -> str:
    """The names of several sources."""
    return ", ".join(map(source_name, sources))
