"""Files of rows with named fields."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from textdiff.data.sources.paths import check_file, file_version
from textdiff.data.sources.source import ParsedRow, RowSource
from textdiff.data.sources.tables import FORMATS, parse_row, read_table, text_of
from textdiff.data.sources.text_file import ENDINGS, lines


@final
@dataclass(frozen=True)
class JsonLines(RowSource):
    """A `.jsonl` file: an object in each line, a document or template in one of its fields.

    Args:
        path: of the file.
    """

    path: str

    @property
    def name(self) -> str:
        return self.path

    def check(self) -> None:
        check_file(self.path)

    def texts(self, field: str) -> Iterator[str]:
        return (text_of(row, field, self.name) for row in read_table(self.path))

    def version(self) -> list[str | int]:
        return file_version(self.path)

    def entries(self) -> Iterator[str]:
        return (line for line in lines(self.path) if line.strip())

    def parse(self, entry: str | Mapping[str, Any], field: str) -> ParsedRow:
        line = str(entry).strip()
        try:
            row = json.loads(line)
        except ValueError as error:
            return ParsedRow(line, {}, f"a row of {self.name!r} is no JSON ({error})")
        if not isinstance(row, dict):
            return ParsedRow(line, {}, f"a row of {self.name!r} is no JSON object, expected one with {field!r}")
        return parse_row(row, field, self.name)

    def count(self) -> int:
        return sum(1 for _ in self.entries())


@final
@dataclass(frozen=True)
class TableFile(RowSource):
    """A `.json`, `.csv` or `.parquet` file, a document or template in one of its columns.

    Args:
        path: of the file.
    """

    path: str

    @property
    def name(self) -> str:
        return self.path

    def check(self) -> None:
        check_file(self.path, known=(*ENDINGS, *FORMATS))

    def texts(self, field: str) -> Iterator[str]:
        return (text_of(row, field, self.name) for row in read_table(self.path))

    def version(self) -> list[str | int]:
        return file_version(self.path)

    def entries(self) -> Iterator[Mapping[str, Any]]:
        return iter(read_table(self.path))

    def parse(self, entry: str | Mapping[str, Any], field: str) -> ParsedRow:
        assert isinstance(entry, Mapping)
        return parse_row(entry, field, self.name)

    def count(self) -> int | None:
        if Path(self.path).suffix != ".parquet":
            return None
        from pyarrow.parquet import read_metadata

        return int(read_metadata(self.path).num_rows)
