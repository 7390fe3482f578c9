"""Observed tokens: a text with gaps, or a canvas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.evidence.evidence import Evidence
from textdiff.files.fields import instance
from textdiff.text import Canvas, Template


@final
@dataclass(frozen=True, eq=False)
class Observed(Evidence):
    """Tokens that are known, and the gaps between them.

    Args:
        known: a template, as text or parsed; or a canvas of one row.

    Raises:
        UserError: a malformed template, or a canvas of several rows.
    """

    known: str | Template | Canvas

    fixes = True
    weighs = False

    def __post_init__(self) -> None:
        if isinstance(self.known, str):
            object.__setattr__(self, "known", Template.parse(self.known))
            return
        instance((Template, Canvas), "a text with gaps, a Template or a Canvas").check("the evidence", self.known)
        if isinstance(self.known, Canvas) and len(self.known) != 1:
            raise UserError(f"the canvas has {len(self.known)} rows: evidence is about one text, give one row")

    @property
    def template(self) -> Template | None:
        return self.known if isinstance(self.known, Template) else None

    def canvas(self, tokenizer: PreTrainedTokenizerBase) -> Canvas | None:
        assert not isinstance(self.known, str)
        return self.known.encode(tokenizer) if isinstance(self.known, Template) else self.known
