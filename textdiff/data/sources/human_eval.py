"""Programs with a piece missing, in the format of HumanEval-infilling (arXiv:2207.14255)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

from textdiff.data.sources.paths import check_file, file_version
from textdiff.data.sources.source import Source, readable
from textdiff.data.sources.tables import check_text, decoded, json_lines
from textdiff.errors import UserError

FIELDS = ("task_id", "prompt", "suffix", "canonical_solution", "test")
"""Fields that a row must have; it may have an `entry_point`, too."""


@final
@dataclass(frozen=True)
class HumanEval(Source):
    """A jsonl file of programming problems; in short `humaneval:path`. A document is a whole program.

    Args:
        path: of the file.
    """

    path: str

    @property
    def name(self) -> str:
        return f"humaneval:{self.path}"

    def check(self) -> None:
        check_file(self.path, self.name)

    def texts(self, field: str) -> Iterator[str]:
        return (f"{row['prompt']}{row['canonical_solution']}{row['suffix']}" for row in self.rows())

    def version(self) -> list[str | int]:
        return file_version(self.path)

    def rows(self) -> Iterator[dict[str, str]]:
        """The problems, with `FIELDS` and `entry_point`, which is empty if the test runs its check itself.

        Raises:
            UserError: there is no such file, or a row lacks a field.
        """
        self.check()
        with readable(self.path):
            for entry in map(decoded, json_lines(self.path)):
                if entry.error is not None:
                    raise UserError(entry.error)
                row = entry.content
                assert isinstance(row, Mapping)
                if missing := [name for name in FIELDS if not isinstance(row.get(name), str)]:
                    raise UserError(f"{entry.where} has no text {missing[0]!r}: a problem has {', '.join(FIELDS)}")
                for name in FIELDS:
                    check_text(row[name], name, entry.where)
                yield {name: row[name] for name in FIELDS} | {"entry_point": str(row.get("entry_point") or "")}
