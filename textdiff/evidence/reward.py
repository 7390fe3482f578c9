"""Rewards: texts are weighted by a score, as soft constraints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from textdiff.errors import UserError, reason
from textdiff.evidence.evidence import Decode, Evidence, zeros
from textdiff.evidence.scores import Score
from textdiff.files.fields import FLAG, FUNCTION, TEXT, check_fields, number, whole

_FIELDS = {
    "function": FUNCTION,
    "temperature": number(lambda value: value > 0, "a number above 0"),
    "gap": whole(0).optional(),
    "look_ahead": FLAG,
    "name": TEXT,
}


@final
@dataclass(frozen=True, eq=False)
class Reward(Evidence):
    """The likelihood exp(score / temperature) of a text: `Observed("...[gap]...") & Reward(f)`.

    The score is part of the importance weights of draws; `SMC`, `MetropolisHastings` and `Importance` with `resample`
    return draws of the reweighted posterior.

    Args:
        function: scores a batch of texts: a Python function, a classifier, a human's ratings.
        temperature: above 0; the lower, the stronger the effect of the score.
        gap: number of the gap whose fill is scored, from 0; None: the whole text.
        look_ahead: weight particles by the score of their unfinished text, its open slots left out. For scores that add
            up word by word.
        name: of the reward, in messages.

    Raises:
        UserError: the temperature is not above 0.
    """

    function: Score
    temperature: float = 1.0
    gap: int | None = None
    look_ahead: bool = False
    name: str = "reward"

    fixes = False
    weighs = True

    def __post_init__(self) -> None:
        check_fields(vars(self), _FIELDS)

    def log_likelihood(self, tokens: Tensor, decode: Decode) -> Tensor:
        """The score divided by the temperature.

        Raises:
            UserError: the function fails, or does not return one number below infinity for each text; the message names
                the text.
        """
        filled = decode(tokens)
        if self.gap is not None and filled and not 0 <= self.gap < len(filled[0].fills):
            raise UserError(f"the {self.name} is about gap {self.gap}, but there are {len(filled[0].fills)}")
        texts = [one.text if self.gap is None else one.fills[self.gap] for one in filled]
        scores = self._scored(texts)
        for text, score in zip(texts, scores.tolist(), strict=True):
            if math.isnan(score) or score == math.inf:
                raise UserError(f"the {self.name} gave {score} for {text!r}: expected a number, or -inf to rule it out")
        return (scores / self.temperature).to(tokens.device)

    def log_potential(self, tokens: Tensor, masked: Tensor, decode: Decode) -> Tensor:
        """With `look_ahead` the score of the unfinished text, divided by the temperature, else 0."""
        return self.log_likelihood(tokens, decode) if self.look_ahead else zeros(tokens)

    def _scored(self, texts: list[str]) -> Tensor:
        try:
            scores = torch.as_tensor(self.function(texts), dtype=torch.float64).detach().cpu()
        except Exception as error:  # the user's function may raise anything
            culprit = next((text for text in texts if self._fails(text)), None)
            where = f"for {culprit!r}" if culprit is not None else f"for {len(texts)} texts at once"
            raise UserError(f"the {self.name} failed {where}: {type(error).__name__}: {reason(error)}") from error
        if scores.shape != (len(texts),):
            raise UserError(
                f"the {self.name} gave a result of shape {list(scores.shape)} for {len(texts)} texts: "
                f"expected a number for each, [{len(texts)}]"
            )
        return scores

    def _fails(self, text: str) -> bool:
        try:
            self.function([text])
        except Exception:  # only whether it fails is of interest
            return True
        return False
