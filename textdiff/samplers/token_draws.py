"""How one denoising step draws tokens: at the slots it reveals, at all masked slots, or under a constraint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from textdiff.errors import UserError
from textdiff.samplers.categorical import categorical
from textdiff.samplers.constrained import Constrained
from textdiff.samplers.tempering import Tempering
from textdiff.samplers.trajectory import ConstraintWeights
from textdiff.text import ProductDFA


@dataclass(frozen=True, eq=False)
class Answer:
    """The denoiser's answer in one step, for masked slots of the rows that are not complete.

    Attributes:
        tokens: the canvas, `[rows, length]`.
        masked: bool `[rows, length]`.
        asked: bool `[rows, length]`, the masked slots that the denoiser was asked about.
        log_probs: `[asked.sum(), vocab]`, normalised over the allowed tokens, not tempered.
        noise: float64 uniforms `[rows, length]` for the draws.
    """

    tokens: Tensor
    masked: Tensor
    asked: Tensor
    log_probs: Tensor
    noise: Tensor

    def at(self, revealed: Tensor) -> Tensor:
        """Log-probs of the slots `revealed`, which were all asked about: `[revealed.sum(), vocab]`."""
        return self.log_probs if revealed is self.asked else self.log_probs[revealed[self.asked]]


class TokenDraw(ABC):
    """The draw of one step."""

    @abstractmethod
    def log_probs(self, revealed: Tensor) -> Tensor:
        """The distributions that score the tokens of the `revealed` slots: float64 `[revealed.sum(), vocab]`."""

    @abstractmethod
    def values(self, revealed: Tensor, log_probs: Tensor) -> Tensor:
        """Tokens of the `revealed` slots, `[revealed.sum()]`; `log_probs` are those that `log_probs` gave."""


@final
class RevealedDraw(TokenDraw):
    """Only the slots that are revealed are drawn, each independently."""

    def __init__(self, answer: Answer, tempering: Tempering) -> None:
        self._answer, self._tempering = answer, tempering

    def log_probs(self, revealed: Tensor) -> Tensor:
        return self._tempering(self._answer.at(revealed))

    def values(self, revealed: Tensor, log_probs: Tensor) -> Tensor:
        return categorical(log_probs, self._answer.noise[revealed])


@final
class CandidateDraw(TokenDraw):
    """Every masked slot is drawn independently, and a policy that looks at these candidates keeps some of them.

    Attributes:
        candidates: the canvas with a token in every slot, `[rows, length]`.
    """

    def __init__(self, answer: Answer, tempering: Tempering) -> None:
        self._masked, self._tempered = answer.masked, tempering(answer.log_probs)
        drawn = categorical(self._tempered, answer.noise[answer.masked])
        self.candidates = answer.tokens.masked_scatter(answer.masked, drawn)

    def log_probs(self, revealed: Tensor) -> Tensor:
        return self._tempered[revealed[self._masked]]

    def values(self, revealed: Tensor, log_probs: Tensor) -> Tensor:
        return self.candidates[revealed]


@final
class ConstrainedDraw(TokenDraw):
    """All masked slots are drawn jointly given that a constraint automaton accepts, and the revealed ones are kept.

    Raises:
        UserError: tempering has cut all tokens that could satisfy the constraint.
    """

    def __init__(self, answer: Answer, tempering: Tempering, dfa: ProductDFA) -> None:
        self._answer, self._dfa, self._tempered = answer, dfa, tempering(answer.log_probs)
        self._chain = Constrained(dfa, answer.tokens, answer.masked, self._tempered)
        self._log_mass = self._chain.log_mass()
        if not tempering.neutral and (self._log_mass == -torch.inf).any():
            raise UserError(f"too little is left to draw from for {dfa.description}: raise top_p or top_k")

    def log_probs(self, revealed: Tensor) -> Tensor:
        return self._tempered[revealed[self._answer.masked]]

    def values(self, revealed: Tensor, log_probs: Tensor) -> Tensor:
        drawn = self._chain.draw(self._answer.noise)
        return self._answer.tokens.masked_scatter(self._answer.masked, drawn)[revealed]

    def update(
        self, weights: ConstraintWeights, rows: Tensor, tokens: Tensor, masked: Tensor, revealed: Tensor
    ) -> ConstraintWeights:
        """The weights of the batch once the `rows` hold `tokens` and still have `masked` slots, `[rows, length]` each.

        What was kept has probability p(kept) Z(after) / Z(before) under the constraint, so its excess is
        log Z(before) - log Z(after).
        """
        left = self._tempered[~revealed[self._answer.masked]]
        after = Constrained(self._dfa, tokens, masked, left).log_mass()
        change = (self._log_mass - after).nan_to_num(nan=-torch.inf)
        return ConstraintWeights(
            weights.log_excess.index_add(0, rows, change), weights.log_ahead.index_copy(0, rows, after)
        )
