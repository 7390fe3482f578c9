"""Files of plain text, which may be compressed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from textdiff.data.sources.paths import check_file, file_version, lines, unescaped
from textdiff.data.sources.source import Entry, ParsedRow, RowSource
from textdiff.worlds.catalog import SEPARATOR


@final
@dataclass(frozen=True)
class TextFile(RowSource):
    """A `.txt` file (or `.txt.gz` etc.): documents that end with a line `<|endoftext|>`, or a template in each line.

    Without a line `<|endoftext|>` the file is a single document, which may be as long as a novel: whoever needs shorter
    texts reads it in passages, see `textdiff.data.passages`.

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
        document: list[str] = []
        for line in lines(self.path):
            if line.strip() == SEPARATOR:
                yield "".join(document)
                document = []
            else:
                document.append(line)
        yield "".join(document)

    def version(self) -> list[str | int]:
        return file_version(self.path)

    def entries(self) -> Iterator[Entry]:
        for number, line in enumerate(lines(self.path, escape=True), 1):
            if line.strip():
                yield Entry(f"line {number} of {self.path!r}", line.strip())

    def parse(self, entry: Entry, field: str) -> ParsedRow:
        line = str(entry.content)
        if (spelt := unescaped(line)) is not None:
            return ParsedRow(spelt, {}, f"{entry.where} is not UTF-8: convert it")
        return ParsedRow(line, {})

    def count(self) -> int:
        return sum(1 for _ in self.entries())
