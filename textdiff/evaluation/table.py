"""Tables of results, as Markdown and as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, final

RULE = "|---"
"""A cell of the line between head and rows."""


@final
@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        head: titles of the columns.
        rows: cells of each row; a row with fewer cells than titles has empty ones on its left.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self, rule: str = RULE) -> str:
        """Lines of Markdown; `rule` is a cell of the line below the head."""
        lines = [self._line(self.head), rule * len(self.head) + "|", *map(self._line, self.rows)]
        return "\n".join(lines)

    def html(self) -> str:
        """A `<table>` element."""
        titles = "".join(f"<th>{escape(cell)}" for cell in self.head)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}' for cell in row)}" for row in self.rows)
        return f"<table><tr>{titles}{body}</table>"

    def _line(self, cells: Sequence[str]) -> str:
        return f"{'| ' * (len(self.head) - len(cells))}| {' | '.join(cells)} |"


def caption(about: Mapping[str, Any]) -> str:
    """What was measured on, in one line: names and values."""
    return ", ".join(f"{name} {value}" for name, value in about.items())
