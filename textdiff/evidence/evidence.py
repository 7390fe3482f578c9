"""The contract of evidence, y in p(x | y): it fixes tokens, constrains texts or weights them; `&` composes pieces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import final

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.text import Canvas, Filled, Template, TokenDFA

Decode = Callable[[Tensor], Sequence[Filled]]
"""Decodes complete rows of ids `[n, length]` to their texts, whole and per gap."""

MOST_PIECES = 32
"""Of evidence that hold together."""

PositionedDFA = tuple[TokenDFA, Tensor]
"""An automaton that must accept, and the positions whose tokens it takes, bool `[length]`."""


class Evidence(ABC):
    """What is known about a text: y in p(x | y).

    A piece of evidence fixes tokens (`canvas`), or constrains texts (`dfas`), or weights complete texts
    (`log_likelihood`). Every piece says in `fixes` and `weighs` what it does, and overrides the methods that belong to
    it; the defaults are those of evidence that knows nothing of the kind.
    """

    @property
    @abstractmethod
    def fixes(self) -> bool:
        """Whether it fixes tokens, so that `canvas` is not None."""

    @property
    @abstractmethod
    def weighs(self) -> bool:
        """Whether complete texts that agree with the fixed tokens and the constraints differ in likelihood."""

    @property
    def template(self) -> Template | None:
        """The template of the fixed tokens, if they come from one."""
        return None

    def canvas(self, tokenizer: PreTrainedTokenizerBase) -> Canvas | None:
        """The fixed tokens and the gaps, one row; None if no token is fixed."""
        return None

    def dfas(self, canvas: Canvas, tokenizer: PreTrainedTokenizerBase) -> list[PositionedDFA]:
        """Automata that must all accept: the hard constraints on the texts of a canvas of one row."""
        return []

    def log_likelihood(self, tokens: Tensor, decode: Decode) -> Tensor:
        """log p(y | x) in nats of complete texts, float64 `[n]`.

        Args:
            tokens: `[n, length]`, texts that agree with the fixed tokens; whether `dfas` accept them is not checked.
            decode: decodes rows of `tokens`.
        """
        return zeros(tokens)

    def log_potential(self, tokens: Tensor, masked: Tensor, decode: Decode) -> Tensor:
        """Estimate in nats of the log-likelihood that partly filled texts will have, float64 `[n]`: any finite number.

        Args:
            tokens: `[n, length]`, with the mask token in slots that are still open.
            masked: `[n, length]` bool, the slots that are still open.
            decode: decodes rows of `tokens`, leaving open slots out.
        """
        return zeros(tokens)

    def __and__(self, other: Evidence) -> Evidence:
        """The conjunction of both."""
        return Both(self, other) if isinstance(other, Evidence) else NotImplemented


@final
class Both(Evidence):
    """The conjunction of two pieces of evidence: fixed tokens are merged, and likelihoods multiply."""

    def __init__(self, first: Evidence, second: Evidence) -> None:
        self.first, self.second = first, second
        self._pieces: int = sum(part._pieces if isinstance(part, Both) else 1 for part in (first, second))
        if self._pieces > MOST_PIECES:
            raise UserError(f"more than {MOST_PIECES} pieces of evidence are joined: join fewer")

    @property
    def fixes(self) -> bool:
        return self.first.fixes or self.second.fixes

    @property
    def weighs(self) -> bool:
        return self.first.weighs or self.second.weighs

    @property
    def template(self) -> Template | None:
        """The template of one piece, if the other fixes no token."""
        for one, other in ((self.first, self.second), (self.second, self.first)):
            if one.template is not None and not other.fixes:
                return one.template
        return None

    def canvas(self, tokenizer: PreTrainedTokenizerBase) -> Canvas | None:
        """The canvas on which every token is fixed that either piece fixes.

        Raises:
            UserError: they contradict each other, are of different lengths, or leave a gap's length open.
        """
        one, other = self.first.canvas(tokenizer), self.second.canvas(tokenizer)
        if one is None or other is None:
            return other if one is None else one
        return merge_observed(one, other, tokenizer.mask_token_id)

    def dfas(self, canvas: Canvas, tokenizer: PreTrainedTokenizerBase) -> list[PositionedDFA]:
        return [*self.first.dfas(canvas, tokenizer), *self.second.dfas(canvas, tokenizer)]

    def log_likelihood(self, tokens: Tensor, decode: Decode) -> Tensor:
        return self.first.log_likelihood(tokens, decode) + self.second.log_likelihood(tokens, decode)

    def log_potential(self, tokens: Tensor, masked: Tensor, decode: Decode) -> Tensor:
        return self.first.log_potential(tokens, masked, decode) + self.second.log_potential(tokens, masked, decode)

    def __str__(self) -> str:
        return " and ".join(str(part) for part in (self.first, self.second) if type(part).__str__ is not object.__str__)


def templates(evidence: Evidence) -> Iterator[Template]:
    """The templates that the pieces of some evidence come from."""
    if isinstance(evidence, Both):
        yield from templates(evidence.first)
        yield from templates(evidence.second)
    elif evidence.template is not None:
        yield evidence.template


def merge_observed(one: Canvas, other: Canvas, mask_id: int) -> Canvas:
    """The canvas on which every token is fixed that either of two canvases of one row fixes.

    Raises:
        UserError: they contradict each other, are of different lengths, or leave a gap's length open.
    """
    if one.tokens.shape != other.tokens.shape:
        raise UserError(
            f"two observations of {one.tokens.shape[1]} and {other.tokens.shape[1]} tokens cannot both hold: "
            "they must be of one text, of the same length"
        )
    if any((canvas.minimum != canvas.maximum).any() for canvas in (one, other)):
        raise UserError("two observations with a gap of open length cannot be laid over each other: write [gap:12]")
    clash = one.observed & other.observed & (one.tokens != other.tokens)
    if clash.any():
        place = int(clash[0].nonzero()[0])
        raise UserError(
            f"two observations contradict each other at token {place}: "
            f"ids {int(one.tokens[0, place])} and {int(other.tokens[0, place])}"
        )
    canvas = Canvas.of(torch.where(one.observed, one.tokens, other.tokens), mask_id)
    word_start = (one.word_start | other.word_start) & canvas.slots
    return Canvas(canvas.tokens, canvas.observed, canvas.gap, canvas.minimum, word_start)


def zeros(tokens: Tensor) -> Tensor:
    """The log-likelihood 0 of each of `tokens [n, length]`, float64 `[n]`."""
    return torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
