"""Files of plain text, which may be compressed."""

from __future__ import annotations

import lzma
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

from textdiff.data.sources.paths import check_file, file_version
from textdiff.data.sources.source import ParsedRow, RowSource
from textdiff.worlds.catalog import SEPARATOR

ENDINGS = (".txt", ".txt.xz")


@final
@dataclass(frozen=True)
class TextFile(RowSource):
    """A `.txt` file (or `.txt.xz`): documents that end with a line `<|endoftext|>`, or a template in each line.

    Without a line `<|endoftext|>` the file is a single document.

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

    def entries(self) -> Iterator[str]:
        return (line for line in lines(self.path) if line.strip())

    def parse(self, entry: str | Mapping[str, Any], field: str) -> ParsedRow:
        return ParsedRow(str(entry).strip(), {})

    def count(self) -> int:
        return sum(1 for _ in self.entries())


def lines(path: str) -> Iterator[str]:
    """The lines of a text file, which may be compressed."""
    with (lzma.open if path.endswith(".xz") else open)(path, "rt", encoding="utf-8-sig") as file:
        yield from file
