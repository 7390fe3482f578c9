"""Data sets of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, final

from textdiff.data.sources.source import Entry, ParsedRow, RowSource
from textdiff.data.sources.tables import parse_row, text_of


@final
@dataclass(frozen=True)
class HubDataset(RowSource):
    """A data set of the Hugging Face Hub, read as a stream; in short `hub:owner/name[:config][@split]`.

    Args:
        repository: owner/name.
        config: of the data set, if it has several.
        split: "train", "validation", or a part such as "train[:100]".
    """

    repository: str
    config: str | None = None
    split: str = "train"

    @property
    def name(self) -> str:
        config = f":{self.config}" if self.config else ""
        return f"hub:{self.repository}{config}{'' if self.split == 'train' else f'@{self.split}'}"

    def check(self) -> None:
        pass  # whether it exists is known when it is read

    def texts(self, field: str) -> Iterator[str]:
        return (text_of(entry, field) for entry in self.entries())

    def version(self) -> list[str | int]:
        return []

    def entries(self) -> Iterator[Entry]:
        return (Entry(f"row {number} of {self.name!r}", row) for number, row in enumerate(self._rows(), 1))

    def parse(self, entry: Entry, field: str) -> ParsedRow:
        return parse_row(entry, field)

    def count(self) -> int | None:
        return None

    def _rows(self) -> Iterable[dict[str, Any]]:
        from datasets import load_dataset

        rows: Iterable[dict[str, Any]] = load_dataset(
            self.repository, self.config, data_files=None, split=self.split, streaming=True
        )
        return rows
