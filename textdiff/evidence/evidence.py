"""Evidence: what is known about a text. It fixes tokens, and may weigh complete texts; pieces compose with `&`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.text import Canvas, Filled, Template, TokenDFA

LogLikelihood = Callable[[Tensor], Tensor]
"""Complete texts as ids `[n, length]`, null in unused slots -> log-likelihood in nats `[n]`; -inf rules a text out."""

Decode = Callable[[Tensor], Sequence[Filled]]
"""Complete rows of ids `[n, length]` -> their texts, whole and per gap."""

Rule = tuple[TokenDFA, Tensor]
"""An automaton that must accept, and the positions that it reads, bool `[length]`."""

LookAhead = Callable[[Tensor, Tensor], Tensor]
"""Ids `[n, length]` of partly filled texts and what is still masked, bool likewise -> a guess in nats `[n]` of the
log-likelihood that the completed texts will have."""


class Evidence(ABC):
    """What is known about a text: y in p(x | y)."""

    @property
    @abstractmethod
    def template(self) -> Template | None:
        """The template that says what is fixed, if there is one."""

    @property
    @abstractmethod
    def fixes(self) -> bool:
        """Whether it fixes tokens."""

    @abstractmethod
    def canvas(self, tokenizer: PreTrainedTokenizerBase) -> Canvas | None:
        """The fixed tokens and the gaps, one row; None if nothing is fixed."""

    @abstractmethod
    def log_likelihood(self, tokens: Tensor, read: Decode) -> Tensor:
        """log p(y | x) in nats of complete texts `[n, length]` that agree with the fixed tokens: float64 `[n]`.

        What `rules` rule out is not looked at. `read` tells the texts of rows.
        """

    @abstractmethod
    def log_potential(self, tokens: Tensor, masked: Tensor, read: Decode) -> Tensor:
        """Look-ahead on partly filled texts `[n, length]`, float64 `[n]` in nats: any finite guess is allowed."""

    @property
    @abstractmethod
    def weighs(self) -> bool:
        """Whether complete texts that agree with the fixed tokens and the rules differ in likelihood."""

    @abstractmethod
    def rules(self, canvas: Canvas, tokenizer: PreTrainedTokenizerBase) -> list[Rule]:
        """Hard constraints on the texts of a canvas of one row."""

    def __and__(self, other: Evidence) -> Evidence:
        """Both at once."""
        return Both(self, other)


class Weightless(Evidence):
    """Evidence for which all texts that it allows are alike."""

    def log_likelihood(self, tokens: Tensor, read: Decode) -> Tensor:
        return nothing(tokens)

    def log_potential(self, tokens: Tensor, masked: Tensor, read: Decode) -> Tensor:
        return nothing(tokens)

    @property
    def weighs(self) -> bool:
        return False


class Fixing(Weightless):
    """Evidence that fixes tokens and does nothing else."""

    @property
    def fixes(self) -> bool:
        return True

    def rules(self, canvas: Canvas, tokenizer: PreTrainedTokenizerBase) -> list[Rule]:
        return []


class Unfixed(Evidence):
    """Evidence that fixes no token."""

    @property
    def template(self) -> Template | None:
        return None

    @property
    def fixes(self) -> bool:
        return False

    def canvas(self, tokenizer: PreTrainedTokenizerBase) -> Canvas | None:
        return None


class Weighing(Unfixed):
    """Evidence that weighs complete texts."""

    @property
    def weighs(self) -> bool:
        return True

    def rules(self, canvas: Canvas, tokenizer: PreTrainedTokenizerBase) -> list[Rule]:
        return []


@final
@dataclass(frozen=True, eq=False)
class Observed(Fixing):
    """Tokens that are known, and gaps between them.

    Args:
        known: a template, as text or parsed; or a canvas of one row.

    Raises:
        UserError: a malformed template, or a canvas of several rows.
    """

    known: str | Template | Canvas

    def __post_init__(self) -> None:
        if isinstance(self.known, str):
            object.__setattr__(self, "known", Template.parse(self.known))
        elif isinstance(self.known, Canvas) and len(self.known) != 1:
            raise UserError(f"the canvas has {len(self.known)} rows: evidence is about one text, give one row")

    @property
    def template(self) -> Template | None:
        return self.known if isinstance(self.known, Template) else None

    def canvas(self, tokenizer: PreTrainedTokenizerBase) -> Canvas | None:
        assert not isinstance(self.known, str)
        return self.known.encode(tokenizer) if isinstance(self.known, Template) else self.known


@final
@dataclass(frozen=True, eq=False)
class Likelihood(Weighing):
    """Any likelihood of complete texts, such as a classifier's: `Observed("...[gap]...") & Likelihood(f)`.

    Args:
        function: see `LogLikelihood`.
        look_ahead: see `LookAhead`; without one a particle learns only at the end what it is worth.
    """

    function: LogLikelihood
    look_ahead: LookAhead | None = None

    def log_likelihood(self, tokens: Tensor, read: Decode) -> Tensor:
        """As the function says.

        Raises:
            UserError: it does not give one number below infinity for each text.
        """
        return self._checked(self.function(tokens), tokens, "likelihood")

    def log_potential(self, tokens: Tensor, masked: Tensor, read: Decode) -> Tensor:
        """As the look-ahead says; 0 without one.

        Raises:
            UserError: it does not give one number below infinity for each text.
        """
        if self.look_ahead is None:
            return nothing(tokens)
        return self._checked(self.look_ahead(tokens, masked), tokens, "look-ahead")

    @staticmethod
    def _checked(values: Tensor, tokens: Tensor, name: str) -> Tensor:
        if not isinstance(values, Tensor) or values.shape != tokens.shape[:1]:
            came = f"a tensor {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise UserError(f"the {name} gave {came} for {len(tokens)} texts: expected a tensor [{len(tokens)}]")
        values = values.to(tokens.device, torch.float64)
        if (bad := values.isnan() | (values == torch.inf)).any():
            row = int(bad.nonzero()[0])
            raise UserError(
                f"the {name} gave {values[row].item()} for tokens {tokens[row].tolist()}: "
                "expected a number of nats, or -inf for a text that is ruled out"
            )
        return values


@final
class Both(Evidence):
    """The conjunction of two pieces of evidence: likelihoods multiply, fixed tokens unite."""

    def __init__(self, first: Evidence, second: Evidence) -> None:
        self.first, self.second = first, second

    @property
    def template(self) -> Template | None:
        """Of the one piece that has a template, if the other fixes nothing."""
        for one, other in ((self.first, self.second), (self.second, self.first)):
            if one.template is not None and not other.fixes:
                return one.template
        return None

    @property
    def fixes(self) -> bool:
        return self.first.fixes or self.second.fixes

    def canvas(self, tokenizer: PreTrainedTokenizerBase) -> Canvas | None:
        """What either fixes is fixed.

        Raises:
            UserError: they contradict each other, are of different lengths, or leave a gap's length open.
        """
        one, other = self.first.canvas(tokenizer), self.second.canvas(tokenizer)
        if one is None or other is None:
            return other if one is None else one
        return united(one, other, tokenizer.mask_token_id)

    def log_likelihood(self, tokens: Tensor, read: Decode) -> Tensor:
        return self.first.log_likelihood(tokens, read) + self.second.log_likelihood(tokens, read)

    def log_potential(self, tokens: Tensor, masked: Tensor, read: Decode) -> Tensor:
        return self.first.log_potential(tokens, masked, read) + self.second.log_potential(tokens, masked, read)

    @property
    def weighs(self) -> bool:
        return self.first.weighs or self.second.weighs

    def rules(self, canvas: Canvas, tokenizer: PreTrainedTokenizerBase) -> list[Rule]:
        return [*self.first.rules(canvas, tokenizer), *self.second.rules(canvas, tokenizer)]

    def __str__(self) -> str:
        return " and ".join(str(part) for part in (self.first, self.second) if type(part).__str__ is not object.__str__)


def united(one: Canvas, other: Canvas, mask_id: int) -> Canvas:
    """The canvas on which all tokens stand that either of two fixes; both have one row.

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


def nothing(tokens: Tensor) -> Tensor:
    """A log-likelihood that tells no text from another."""
    return torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
