"""Likelihoods of complete texts, such as a classifier's, given as functions of token ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from textdiff.errors import UserError, by_the_user
from textdiff.evidence.evidence import Decode, Evidence, zeros
from textdiff.files.fields import FUNCTION, check_fields

LogLikelihood = Callable[[Tensor], Tensor]
"""Complete texts as ids `[n, length]`, null in unused slots -> log-likelihood in nats `[n]`; -inf rules a text out."""

LookAhead = Callable[[Tensor, Tensor], Tensor]
"""Ids `[n, length]` of partly filled texts and what is still masked, bool likewise -> an estimate in nats `[n]` of the
log-likelihood that the completed texts will have."""


@final
@dataclass(frozen=True, eq=False)
class Likelihood(Evidence):
    """Any likelihood of complete texts: `Observed("...[gap]...") & Likelihood(f)`.

    Args:
        function: see `LogLikelihood`.
        look_ahead: see `LookAhead`; without one a particle is weighted only when its text is complete.
    """

    function: LogLikelihood
    look_ahead: LookAhead | None = None

    fixes = False
    weighs = True

    def __post_init__(self) -> None:
        check_fields(vars(self), {"function": FUNCTION, "look_ahead": FUNCTION.optional()})

    def log_likelihood(self, tokens: Tensor, decode: Decode) -> Tensor:
        """The values of the function.

        Raises:
            UserError: it fails, or does not return one number below infinity for each text.
        """
        with by_the_user("the likelihood"):
            values = self.function(tokens)
        return self._checked(values, tokens, "likelihood")

    def log_potential(self, tokens: Tensor, masked: Tensor, decode: Decode) -> Tensor:
        """The values of the look-ahead; 0 without one.

        Raises:
            UserError: it fails, or does not return one number below infinity for each text.
        """
        if self.look_ahead is None:
            return zeros(tokens)
        with by_the_user("the look-ahead"):
            values = self.look_ahead(tokens, masked)
        return self._checked(values, tokens, "look-ahead")

    @staticmethod
    def _checked(values: Tensor, tokens: Tensor, name: str) -> Tensor:
        if not isinstance(values, Tensor) or values.shape != tokens.shape[:1] or values.is_complex():
            came = (
                f"a tensor {list(values.shape)} of {values.dtype}"
                if isinstance(values, Tensor)
                else type(values).__name__
            )
            raise UserError(f"the {name} gave {came} for {len(tokens)} texts: expected real numbers [{len(tokens)}]")
        values = values.to(tokens.device, torch.float64)
        if (bad := values.isnan() | (values == torch.inf)).any():
            row = int(bad.nonzero()[0])
            raise UserError(
                f"the {name} gave {values[row].item()} for tokens {tokens[row].tolist()}: "
                "expected a number of nats, or -inf for a text that is ruled out"
            )
        return values
