"""Questions whose rationale, answer, or both are gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.evidence.evidence import Evidence
from textdiff.files.fields import TEXT, Field, check_fields
from textdiff.text import Canvas, Gap, Template

RATIONALE_GAP, ANSWER_GAP = Gap(1, 32), Gap(1, 8)


@final
@dataclass(frozen=True)
class Question(Evidence):
    """A question, its rationale and its answer, one line each; what is not given is a gap.

    `Question("6 - 0 - 4 = ?")` asks for rationale and answer; with an `answer` it asks for rationales that lead to it.

    Args:
        question: the question.
        answer: its answer, if it is known.
        rationale: the steps from question to answer, if they are known; "" leaves the line out.
        context: what the question is about, on a line before it.
        gaps: the gap of an unknown rationale, and that of an unknown answer.

    Raises:
        UserError: the question is empty, or nothing is unknown.
    """

    question: str
    answer: str | None = None
    rationale: str | None = None
    context: str | None = None
    gaps: tuple[Gap, Gap] = (RATIONALE_GAP, ANSWER_GAP)

    fixes = True
    weighs = False

    def __post_init__(self) -> None:
        check_fields(vars(self), _FIELDS)
        if not self.question.strip():
            raise UserError("the question is empty")
        if self.answer is not None and self.rationale is not None:
            raise UserError("both rationale and answer are given: there is nothing to seek")

    @property
    def template(self) -> Template:
        known = "\n".join(one_line(text) for text in (self.context, self.question) if text)
        parts: list[str | Gap] = [f"{known}\n"]
        for text, gap in zip((self.rationale, self.answer), self.gaps, strict=True):
            if text is None:
                parts += [gap, "\n"]
            elif text:
                parts[-1] = f"{parts[-1]}{one_line(text)}\n"
        last = str(parts.pop()).removesuffix("\n")
        return Template((*parts, last) if last else tuple(parts))

    def canvas(self, tokenizer: PreTrainedTokenizerBase) -> Canvas | None:
        return self.template.encode(tokenizer)


_FIELDS = {
    "question": TEXT,
    **dict.fromkeys(("answer", "rationale", "context"), TEXT.optional()),
    "gaps": Field(
        lambda value: isinstance(value, tuple) and len(value) == 2 and all(isinstance(gap, Gap) for gap in value),
        "expected two Gaps, of the rationale and of the answer",
    ),
}


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split("\n")).strip()
