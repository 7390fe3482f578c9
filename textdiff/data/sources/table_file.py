"""Files of rows with named fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from textdiff.data.sources.paths import LINES, TABLES, TEXT, check_file, ending, file_version
from textdiff.data.sources.source import Entry, ParsedRow, RowSource
from textdiff.data.sources.tables import decoded, json_lines, parse_row, read_table, text_of


@final
@dataclass(frozen=True)
class JsonLines(RowSource):
    """A `.jsonl` file, which may be compressed: an object in each line, a document or template in one of its fields.

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
        return (text_of(decoded(entry), field) for entry in json_lines(self.path))

    def version(self) -> list[str | int]:
        return file_version(self.path)

    def entries(self) -> Iterator[Entry]:
        return json_lines(self.path)

    def parse(self, entry: Entry, field: str) -> ParsedRow:
        return parse_row(decoded(entry), field)

    def count(self) -> int:
        return sum(1 for _ in self.entries())


@final
@dataclass(frozen=True)
class TableFile(RowSource):
    """A `.json`, `.csv`, `.tsv`, `.parquet` or `.arrow` file, a document or template in one of its columns.

    Args:
        path: of the file.
    """

    path: str

    @property
    def name(self) -> str:
        return self.path

    def check(self) -> None:
        check_file(self.path, known=(*TEXT, *LINES, *TABLES))

    def texts(self, field: str) -> Iterator[str]:
        return (text_of(entry, field) for entry in read_table(self.path, field))

    def version(self) -> list[str | int]:
        return file_version(self.path)

    def entries(self) -> Iterator[Entry]:
        return read_table(self.path)

    def parse(self, entry: Entry, field: str) -> ParsedRow:
        return parse_row(entry, field)

    def count(self) -> int | None:
        if ending(self.path) != ".parquet":
            return None
        from pyarrow.parquet import read_metadata

        return int(read_metadata(self.path).num_rows)
