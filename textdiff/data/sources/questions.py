"""Questions with rationales and answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

from textdiff.data.sources.paths import LINES, TABLES, check_file, file_version
from textdiff.data.sources.source import Source
from textdiff.data.sources.tables import check_columns, check_text, read_table
from textdiff.errors import UserError
from textdiff.evidence.question import one_line

ROLES = ("context", "question", "rationale", "answer")

MARK = "####"
"""Parts the rationale from the answer where both stand in one field, as in GSM8K (arXiv:2110.14168)."""


@final
@dataclass(frozen=True)
class Questions(Source):
    """A jsonl, json, csv, parquet or arrow file of questions; in short `questions:path`.

    A document is the fields `context`, `question`, `rationale` and `answer` of a row, a line each, in this order.
    Context and rationale may be missing, and what stands before `####` in an answer is its rationale.

    Args:
        path: of the file.
    """

    path: str

    @property
    def name(self) -> str:
        return f"questions:{self.path}"

    def check(self) -> None:
        check_file(self.path, self.name, (*LINES, *TABLES))

    def texts(self, field: str) -> Iterator[str]:
        for entry in read_table(self.path):
            if entry.error is not None:
                raise UserError(entry.error)
            row = entry.content
            assert isinstance(row, Mapping)
            check_columns(("question", "answer"), row, entry.where, fix="")
            fields = {role: row.get(role) or "" for role in ROLES}
            for role, text in fields.items():
                check_text(text, role, entry.where)
                if role in ("question", "answer") and not text.strip():
                    raise UserError(f"the field {role!r} of {entry.where} holds {text!r}, expected text")
            before, mark, answer = str(fields["answer"]).rpartition(MARK)
            fields |= {"rationale": before or fields["rationale"], "answer": answer} if mark else {}
            yield "\n".join(line for text in fields.values() if (line := one_line(str(text))))

    def version(self) -> list[str | int]:
        return file_version(self.path)
