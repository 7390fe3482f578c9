"""Rows of named fields: jsonl, json, csv, tsv, parquet and arrow files, read as they are written."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from textdiff.data.sources.json_rows import decode_json, flaw_in
from textdiff.data.sources.paths import LINES, ending, lines, unescaped
from textdiff.data.sources.source import Entry, ParsedRow
from textdiff.errors import UserError

LARGEST_CELL = 2**27
"""Characters of a cell of a csv file; a cell that is longer, or never ends, lacks its closing quote."""

AT_ONCE = 256
"""Rows of a parquet or arrow file that are in memory."""


def read_table(path: str, field: str | None = None) -> Iterator[Entry]:
    """The rows of a file, read as a stream; only an array in a `.json` file is read as a whole.

    Cells of a csv file are texts, whatever they look like; an empty cell is an empty text.

    Args:
        path: of the file, which may be compressed unless it is parquet or arrow.
        field: the only columns that are wanted, see `columns_of`; None: all.

    Raises:
        UserError: it is damaged as a whole; a damaged row is an entry with an `error`.
    """
    kind = ending(path)
    if kind in LINES:
        return (decoded(entry) for entry in json_lines(path))
    if kind == ".json":
        return _json(path)
    if kind in (".csv", ".tsv"):
        return _cells(path, "," if kind == ".csv" else "\t")
    return _columns(path, field)


def columns_of(field: str, names: Iterable[str]) -> list[str]:
    """The columns that a field means: that of its name, or several: "sentence1+sentence2"."""
    return [field] if field in names else field.split("+")


def json_lines(path: str) -> Iterator[Entry]:
    """The lines of a jsonl file that are not blank, not decoded yet."""
    for number, line in enumerate(lines(path, escape=True), 1):
        if line.strip():
            yield Entry(f"line {number} of {path!r}", line.strip())


def decoded(entry: Entry) -> Entry:
    """A row of a jsonl file with its fields."""
    line = str(entry.content)
    if (spelt := unescaped(line)) is not None:
        return Entry(entry.where, spelt, f"{entry.where} is not UTF-8: convert it")
    try:
        row = decode_json(line)
    except ValueError as error:
        return Entry(entry.where, line, f"{entry.where} is no JSON ({error})")
    if not isinstance(row, dict):
        return Entry(entry.where, line, f"{entry.where} is no JSON object, expected one with fields")
    return Entry(entry.where, row)


def _json(path: str) -> Iterator[Entry]:
    """Objects in an array, an object in each line, a single object, or one of columns: {"text": ["One.", "Two."]}."""
    beginning = list(islice(json_lines(path), 2))
    if not beginning:
        return
    if len(beginning) == 2 and decoded(beginning[0]).error is None:
        yield from map(decoded, json_lines(path))
        return
    try:
        whole = decode_json("".join(lines(path)))
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path!r} is no JSON ({error})") from error
    if isinstance(whole, dict):
        columns = list(whole.values())
        in_columns = all(isinstance(column, list) for column in columns) and len({len(c) for c in columns}) == 1
        whole = [dict(zip(whole, row, strict=True)) for row in zip(*columns, strict=True)] if in_columns else [whole]
    for number, row in enumerate(whole if isinstance(whole, list) else [whole], 1):
        where = f"row {number} of {path!r}"
        if isinstance(row, dict):
            yield Entry(where, row)
        else:
            yield Entry(where, json.dumps(row, default=str), f"{where} is no JSON object, expected one with fields")


def _cells(path: str, delimiter: str) -> Iterator[Entry]:
    """Rows of a csv file below its head."""
    csv.field_size_limit(LARGEST_CELL)  # of the process; the default is less than a book
    reader = csv.reader(lines(path, "", escape=True), delimiter=delimiter, strict=True)
    head: list[str] | None = None
    while True:
        where = f"line {reader.line_num + 1} of {path!r}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            wrong = Entry(where, "", f"{where} is no row of a {ending(path)} file ({error}): check its quotes")
            if head is None:
                raise UserError(wrong.error) from error
            yield wrong
            continue
        if not cells:
            continue
        if head is None:
            head = _distinct(cells)
            continue
        text = delimiter.join(cells)
        if (spelt := unescaped(text)) is not None:
            yield Entry(where, spelt, f"{where} is not UTF-8: convert it")
        elif any(cells[len(head) :]):
            few = f"{where} has {len(cells)} cells, the head has {len(head)}: put text with commas into quotes"
            yield Entry(where, text, few)
        else:
            yield Entry(where, dict(zip(head, cells, strict=False)))


def _distinct(names: list[str]) -> list[str]:
    """The names of columns, the second of two that are alike with .1 behind it, as spreadsheets are commonly read."""
    found: list[str] = []
    for name in names:
        found.append(name if name not in found else f"{name}.{names[: len(found)].count(name)}")
    return found


def _columns(path: str, field: str | None) -> Iterator[Entry]:
    """Rows of a parquet or arrow file."""
    number = 0
    for batch in (_parquet if ending(path) == ".parquet" else _arrow)(path, field):
        for start in range(0, batch.num_rows, AT_ONCE):
            for row in _values(batch.slice(start, AT_ONCE)):
                number += 1
                where = f"row {number} of {path!r}"
                if isinstance(row, Exception):
                    yield Entry(where, "", f"{where} cannot be read ({row!s:.100})")
                else:
                    yield Entry(where, row)


def _values(batch: Any) -> list[Any]:
    """The rows of a batch as dictionaries; in place of one that Python cannot hold, the error."""
    try:
        return list(batch.to_pylist())
    except (ValueError, ArithmeticError) as error:  # bytes that are not UTF-8, a date after the year 9999
        if batch.num_rows == 1:
            return [error]
        return [row for number in range(batch.num_rows) for row in _values(batch.slice(number, 1))]


def _parquet(path: str, field: str | None) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        yield from file.iter_batches(AT_ONCE, columns=_wanted(field, file.schema_arrow.names, path))


def _arrow(path: str, field: str | None) -> Iterator[Any]:
    import pyarrow

    with pyarrow.memory_map(path) as file:
        try:
            reader = pyarrow.ipc.open_file(file)
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        except pyarrow.ArrowInvalid:  # as `datasets` writes it
            batches = reader = pyarrow.ipc.open_stream(file)
        wanted = _wanted(field, reader.schema.names, path)
        for batch in batches:
            some = batch if wanted is None else batch.select(wanted)
            some.validate(full=True)  # offsets beyond the end of a damaged file would crash the interpreter
            yield some


def _wanted(field: str | None, names: list[str], path: str) -> list[str] | None:
    if field is None:
        return None
    columns = columns_of(field, names)
    check_columns(columns, names, repr(path))
    return columns


def parse_row(entry: Entry, field: str) -> ParsedRow:
    """The template in a field of a row, or in several, and its other fields."""
    if entry.error is not None:
        return ParsedRow(str(entry.content), {}, entry.error)
    row = entry.content
    assert isinstance(row, Mapping)
    if (flaw := flaw_in(row)) is not None:
        return ParsedRow("", {}, f"{entry.where} cannot be kept: it holds {flaw}")
    used = columns_of(field, row)
    others = {column: value for column, value in row.items() if column not in used}
    try:
        return ParsedRow(text_of(entry, field), others)
    except UserError as error:
        return ParsedRow("", row, str(error))


def text_of(entry: Entry, field: str) -> str:
    """The text in a field of a row, or in several that are joined by blanks: "sentence1+sentence2".

    Raises:
        UserError: the row cannot be read, there is no such field, or no text in it.
    """
    if entry.error is not None:
        raise UserError(entry.error)
    row = entry.content
    assert isinstance(row, Mapping)
    columns = columns_of(field, row)
    check_columns(columns, row, entry.where)
    parts = [row[column] for column in columns]
    for column, text in zip(columns, parts, strict=True):
        if text is not None:
            check_text(text, column, entry.where)
    return " ".join(str(text).strip() if len(parts) > 1 else str(text) for text in parts if text)


def check_text(text: object, column: str, where: str) -> None:
    """Check that the value of a field is text.

    Raises:
        UserError: it is something else, or holds half of a pair of surrogates, which no text can.
    """
    if not isinstance(text, str):
        raise UserError(f"the field {column!r} of {where} holds {_short(text)}, expected text: set data.field")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise UserError(
            f"the field {column!r} of {where} holds {half}, half of a character, at position {error.start}"
        ) from error


def check_columns(columns: Iterable[str], there: Iterable[str], where: str, fix: str = ": set data.field") -> None:
    """Check that a row or file has the columns that are wanted.

    Raises:
        UserError: one is missing; the message names those there are.
    """
    names = list(there)
    if missing := [column for column in columns if column not in names]:
        more = f" and {len(names) - 12} more" if len(names) > 12 else ""
        known = ", ".join(str(name)[:40] for name in names[:12])
        raise UserError(f"{where} has no field {missing[0][:80]!r}, only {known}{more}{fix}")


def _short(value: object) -> str:
    shown = repr(value) if not isinstance(value, dict | list | bytes) else type(value).__name__
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
