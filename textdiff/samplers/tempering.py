"""Temperature, top-p and top-k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from textdiff.files.fields import check_fields, number, whole


@final
@dataclass(frozen=True)
class Tempering:
    """Sharpens a distribution before it is drawn from: p^(1 / temperature), cut to its likeliest tokens.

    Args:
        temperature: 0 always takes the likeliest token (greedy), 1 leaves the distribution unchanged.
        top_p: in (0, 1]: keep the fewest likeliest tokens with this total probability; 1 keeps all.
        top_k: keep this many of the likeliest tokens; None keeps all.

    Raises:
        UserError: a number out of range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        check_fields(vars(self), _FIELDS)

    @property
    def neutral(self) -> bool:
        """Whether it leaves every distribution unchanged."""
        return self == NEUTRAL

    def __call__(self, log_probs: Tensor) -> Tensor:
        """The sharpened `log_probs [rows, vocab]`, normalised, float64; each row must have a finite entry."""
        log_probs = log_probs.double()
        if self.neutral:
            return log_probs.log_softmax(dim=-1)
        log_probs = log_probs - log_probs.detach().amax(dim=-1, keepdim=True)
        if self.temperature > 0:
            log_probs = (log_probs / float(self.temperature)).log_softmax(dim=-1)
        most = self.top_k if self.temperature > 0 else 1
        if self.top_p < 1 or most is not None:
            ordered, index = log_probs.detach().sort(dim=-1, descending=True, stable=True)
            if most is not None:
                ordered[..., most:] = -torch.inf
            probs = ordered.log_softmax(dim=-1).exp()
            cut = (probs.cumsum(dim=-1) - probs >= self.top_p) | (ordered == -torch.inf)
            cut = torch.zeros_like(cut).scatter(-1, index, cut)
            log_probs = log_probs.masked_fill(cut, -torch.inf).log_softmax(dim=-1)
        return log_probs

    def __str__(self) -> str:
        """In words, such as "temperature 0.7, top-p 0.9"."""
        words = [f"temperature {self.temperature:g}"] if self.temperature != 1 else []
        words += [f"top-p {self.top_p:g}"] if self.top_p < 1 else []
        words += [f"top-k {self.top_k}"] if self.top_k is not None else []
        return ", ".join(words)


_FIELDS = {
    "temperature": number(lambda value: value >= 0, "0 (the likeliest token) or above"),
    "top_p": number(lambda value: 0 < value <= 1, "a share in (0, 1]"),
    "top_k": whole(1).optional(),
}
NEUTRAL = Tempering()
"""Draws from the distribution as it is."""
