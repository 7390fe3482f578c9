"""Soft constraints: any function that says how good a text is, one that counts words, and one that checks sums."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from textdiff.errors import UserError
from textdiff.evidence.evidence import Decode, Weighing, nothing


class Score(Protocol):
    """Texts -> a number for each, higher is better; -inf rules a text out."""

    def __call__(self, texts: Sequence[str], /) -> Tensor | Sequence[float]: ...


@final
@dataclass(frozen=True)
class Counts:
    """How often any of some words, or pieces of text, occurs in a text: a score.

    Args:
        words: what is counted. One that begins and ends with a letter or digit counts as a whole word only.
        most: what more than so many count for; 1 asks whether one of them occurs. None: no limit.
        pieces: count inside of words, too.
    """

    words: Sequence[str]
    most: int | None = None
    pieces: bool = False

    def __post_init__(self) -> None:
        if not self.words or "" in self.words:
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
    """Whether a worked sum, such as those of `td.world("arithmetic")`, ends rightly: a score of 1 or 0.

    The last line is to be the value of the sum on the first, "6 - 0 - 4 = ?". The lines between are not judged.
    """

    def __call__(self, texts: Sequence[str], /) -> Tensor | Sequence[float]:
        return [float(self._right(text)) for text in texts]

    @staticmethod
    def _right(text: str) -> bool:
        asked, *_, found = text.split("\n") if "\n" in text else (text, "")
        terms = re.findall(r"([+-]?)\s*(\d+)", asked)
        return bool(terms) and found.strip() == str(sum(int(sign + value) for sign, value in terms))


@final
@dataclass(frozen=True, eq=False)
class Reward(Weighing):
    """Texts are worth exp(score / temperature) times what they were: `Observed("...[gap]...") & Reward(f)`.

    Draws carry the score in their weights; `SMC`, `MetropolisHastings` and `Importance` with `resample` heed them.

    Args:
        function: scores a batch of texts: a Python function, a classifier, a human's ratings.
        temperature: above 0; the lower, the more a score counts.
        gap: number of the gap whose fill is scored, from 0; None: the whole text.
        look_ahead: let particles know their score on the way, that of their text as if its open slots were not there.
            For scores that add up word by word.
        name: in messages.

    Raises:
        UserError: the temperature is not above 0.
    """

    function: Score
    temperature: float = 1.0
    gap: int | None = None
    look_ahead: bool = False
    name: str = "reward"

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise UserError(f"temperature is {self.temperature}, expected above 0")

    def log_likelihood(self, tokens: Tensor, read: Decode) -> Tensor:
        """Score over temperature.

        Raises:
            UserError: the function fails, or does not give one number below infinity for each text; says for which.
        """
        filled = read(tokens)
        if self.gap is not None and filled and not 0 <= self.gap < len(filled[0].fills):
            raise UserError(f"the {self.name} is about gap {self.gap}, but there are {len(filled[0].fills)}")
        texts = [some.text if self.gap is None else some.fills[self.gap] for some in filled]
        scores = self._scored(texts)
        for text, score in zip(texts, scores.tolist(), strict=True):
            if math.isnan(score) or score == math.inf:
                raise UserError(f"the {self.name} gave {score} for {text!r}: expected a number, or -inf to rule it out")
        return (scores / self.temperature).to(tokens.device)

    def _scored(self, texts: list[str]) -> Tensor:
        try:
            scores = torch.as_tensor(self.function(texts), dtype=torch.float64).detach().cpu()
        except Exception as error:  # user's code raises what it likes
            guilty = next((text for text in texts if self._fails(text)), None)
            where = f"for {guilty!r}" if guilty is not None else f"for {len(texts)} texts at once"
            raise UserError(f"the {self.name} failed {where}: {type(error).__name__}: {error}") from error
        if scores.shape != (len(texts),):
            raise UserError(
                f"the {self.name} gave a result of shape {list(scores.shape)} for {len(texts)} texts: "
                f"expected a number for each, [{len(texts)}]"
            )
        return scores

    def _fails(self, text: str) -> bool:
        try:
            self.function([text])
        except Exception:  # it is being looked for
            return True
        return False

    def log_potential(self, tokens: Tensor, masked: Tensor, read: Decode) -> Tensor:
        """With `look_ahead` the score of what is written so far, else 0."""
        return self.log_likelihood(tokens, read) if self.look_ahead else nothing(tokens)
