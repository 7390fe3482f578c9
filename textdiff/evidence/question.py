"""Questions: text in which a rationale, an answer, or both are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.evidence.evidence import Fixing
from textdiff.text import Canvas, Gap, Template

RATIONALE, ANSWER = Gap(1, 32), Gap(1, 8)


@final
@dataclass(frozen=True)
class Question(Fixing):
    """A question, a rationale and an answer, a line each; what is not given is a gap.

    `Question("6 - 0 - 4 = ?")` asks for both, with an `answer` for the rationales that lead to it.

    Args:
        question: the question.
        answer: its answer, if it is known.
        rationale: the way from question to answer, if it is known; "" leaves the line out.
        context: what the question is about; a line before it.
        room: tokens of a rationale, and of an answer, that is sought.

    Raises:
        UserError: no question, or nothing to seek.
    """

    question: str
    answer: str | None = None
    rationale: str | None = None
    context: str | None = None
    room: tuple[Gap, Gap] = (RATIONALE, ANSWER)

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise UserError("the question is empty")
        if self.answer is not None and self.rationale is not None:
            raise UserError("both rationale and answer are given: there is nothing to seek")

    @property
    def template(self) -> Template:
        known = "\n".join(one_line(text) for text in (self.context, self.question) if text)
        parts: list[str | Gap] = [f"{known}\n"]
        for text, room in zip((self.rationale, self.answer), self.room, strict=True):
            if text is None:
                parts += [room, "\n"]
            elif text:
                parts[-1] = f"{parts[-1]}{one_line(text)}\n"
        last = str(parts.pop()).removesuffix("\n")
        return Template((*parts, last) if last else tuple(parts))

    def canvas(self, tokenizer: PreTrainedTokenizerBase) -> Canvas | None:
        return self.template.encode(tokenizer)


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split("\n")).strip()
