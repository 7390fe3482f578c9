"""Scores of texts for `Reward`: how often words occur, and whether a worked sum is right."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, final

from torch import Tensor

from textdiff.errors import UserError
from textdiff.files.fields import FLAG, TEXT, check_fields, several, whole


class Score(Protocol):
    """A function of texts: one number for each, the higher the better; -inf rules a text out."""

    def __call__(self, texts: Sequence[str], /) -> Tensor | Sequence[float]: ...


@final
@dataclass(frozen=True)
class Counts:
    """Score a text by how often any of the given words occurs in it.

    Args:
        words: words or other pieces of text.
        most: the highest score, so that 1 asks whether one of them occurs at all; None: no limit.
        pieces: also count where they are part of a longer word.

    Raises:
        UserError: no word, or an empty one.
    """

    words: Collection[str]
    most: int | None = None
    pieces: bool = False

    def __post_init__(self) -> None:
        words = list(self.words) if isinstance(self.words, set | frozenset) else self.words
        several(TEXT, "words").check("words", words)
        check_fields(vars(self), {"most": whole(0).optional(), "pieces": FLAG})
        if "" in self.words:
            raise UserError(f"there is nothing to count in {list(self.words)}: name words that are not empty")

    def __call__(self, texts: Sequence[str], /) -> Tensor | Sequence[float]:
        alternatives = "|".join(
            re.escape(word) if self.pieces else rf"(?<!\w){re.escape(word)}(?!\w)"
            for word in sorted(self.words, key=len, reverse=True)
        )
        counts = (len(re.findall(alternatives, text)) for text in texts)
        return [float(count if self.most is None else min(count, self.most)) for count in counts]


@final
@dataclass(frozen=True)
class RightSum:
    """Score 1 if the answer of a worked sum, such as those of `td.world("arithmetic")`, is right, and 0 if not.

    The answer is the last line, and the sum is the first, "6 - 0 - 4 = ?". The lines between are not checked.
    """

    def __call__(self, texts: Sequence[str], /) -> Tensor | Sequence[float]:
        return [float(self._right(text)) for text in texts]

    @staticmethod
    def _right(text: str) -> bool:
        question, *_, answer = text.split("\n") if "\n" in text else (text, "")
        terms = re.findall(r"([+-]?)\s*(\d+)", question)
        return bool(terms) and answer.strip() == str(sum(int(sign + value) for sign, value in terms))
