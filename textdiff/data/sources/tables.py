"""Reading rows of named fields, with the library `datasets`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from textdiff.data.sources.source import ParsedRow
from textdiff.errors import UserError

FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
"""The reader of `datasets` for each ending of a file."""


def read_table(path: str) -> Iterable[dict[str, Any]]:
    """The rows of a jsonl, json, csv or parquet file, read as a stream."""
    from datasets import load_dataset

    rows: Iterable[dict[str, Any]] = load_dataset(
        FORMATS[Path(path).suffix], None, data_files=path, split="train", streaming=True
    )
    return rows


def parse_row(row: Mapping[str, Any], field: str, name: str) -> ParsedRow:
    """The template in a field of a row, or in several, and its other fields."""
    used = [field] if field in row else field.split("+")
    others = {column: value for column, value in row.items() if column not in used}
    try:
        return ParsedRow(text_of(row, field, name), others)
    except UserError as error:
        return ParsedRow("", row, str(error))


def text_of(row: Mapping[str, Any], field: str, name: str) -> str:
    """The text in a field of a row, or in several that are joined by blanks: "sentence1+sentence2".

    Raises:
        UserError: there is no such field, or no text in it; about the source `name`.
    """
    columns = [field] if field in row else field.split("+")
    if missing := [column for column in columns if column not in row]:
        raise UserError(f"{name!r} has no field {missing[0]!r}, only {', '.join(row)}: set data.field")
    parts = [row[column] for column in columns]
    for column, text in zip(columns, parts, strict=True):
        if not isinstance(text, str | None):
            raise UserError(f"the field {column!r} of {name!r} holds {text!r}, expected text: set data.field")
    return " ".join(str(text).strip() if len(parts) > 1 else str(text) for text in parts if text)
