"""Random numbers of a row that nobody else touches, and categorical draws by inverse CDF in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from textdiff.errors import UserError

Randomness = torch.Generator | Tensor
"""Where the random numbers of a batch come from: a generator, whose next numbers seed the rows, or their seeds."""


def row_seeds(generator: torch.Generator, rows: int) -> Tensor:
    """Seeds of so many rows from the next numbers of `generator`: int64 `[rows]`."""
    return torch.randint(2**63 - 1, (rows,), generator=generator, device=generator.device)


@dataclass(frozen=True, eq=False)
class Streams:
    """One stream of random numbers per row, read by slot, so that neither batch mates nor padding move it.

    Attributes:
        seeds: int64 `[batch]`.
        slots: bool `[batch, length]`, the slots that ask for numbers.
    """

    seeds: Tensor
    slots: Tensor

    @classmethod
    def of(cls, source: Randomness, slots: Tensor) -> Streams:
        """Streams of rows by their seeds."""
        seeds = source if isinstance(source, Tensor) else row_seeds(source, len(slots))
        assert len(seeds) == len(slots)
        return cls(seeds.to(slots.device), slots)

    def uniforms(self, rows: Tensor, call: Tensor) -> tuple[Tensor, Tensor]:
        """Two fresh uniforms per slot of some rows, in their call number `call [rows]`; each `[rows, length]`."""
        slots = self.slots[rows].long()
        start = 2 * call[:, None] * slots.sum(dim=1, keepdim=True)
        index = start + slots.cumsum(dim=1) - slots
        seeds = self.seeds[rows, None]
        return uniforms(seeds, index), uniforms(seeds, index + slots.sum(dim=1, keepdim=True))


def uniforms(seeds: Tensor, index: Tensor) -> Tensor:
    """Number `index` of the random stream `seeds`, float64 in [0, 1) with 53 random bits; int64 inputs that broadcast.

    SplitMix64 (Steele, Lea and Flood 2014): output i of a stream is a fixed mix of seed + i times an odd constant. No
    state is kept, so thousands of streams are read in one call, and none depends on which others are read.
    """
    word = seeds + (index + 1) * _signed(0x9E3779B97F4A7C15)
    word = (word ^ _shift(word, 30)) * _signed(0xBF58476D1CE4E5B9)
    word = (word ^ _shift(word, 27)) * _signed(0x94D049BB133111EB)
    return _shift(word ^ _shift(word, 31), 11).double() * 2.0**-53


def categorical(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """The category of each row at quantile `uniform [rows]` of `log_probs [rows, categories]` -> ids `[rows]`.

    By inverse CDF in float64: float32 Gumbel noise never reaches the tail and so lowers the temperature unseen
    (arXiv:2409.02908). A category without probability is never drawn.
    """
    cdf = log_probs.double().exp().cumsum(dim=-1)
    total = cdf[:, -1]
    quantile = torch.minimum(uniform * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cdf, quantile[:, None], right=True)[:, 0]


@dataclass(frozen=True)
class Tempering:
    """Sharpens the law of a draw: p^(1 / temperature), cut to its likeliest tokens.

    Args:
        temperature: 0 leaves the likeliest token alone (greedy), 1 the law as it is.
        top_p: in (0, 1]: keep the likeliest tokens of so much mass; 1 keeps all.
        top_k: keep so many of the likeliest tokens; None keeps all.

    Raises:
        UserError: a number out of range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < torch.inf:
            raise UserError(f"temperature is {self.temperature}, expected 0 (the likeliest token) or above")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}, expected in (0, 1]")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top_k is {self.top_k}, expected 1 or more, or none")

    @property
    def neutral(self) -> bool:
        """Whether it leaves every law as it is."""
        return self == NEUTRAL

    def __call__(self, log_probs: Tensor) -> Tensor:
        """The sharpened law of `log_probs [rows, vocab]`, each row with a finite entry: normalised, float64."""
        law = log_probs.double()
        if self.neutral:
            return law.log_softmax(dim=-1)
        law = law - law.detach().amax(dim=-1, keepdim=True)
        if self.temperature > 0:
            law = (law / self.temperature).log_softmax(dim=-1)
        most = self.top_k if self.temperature > 0 else 1
        if self.top_p < 1 or most is not None:
            ordered, index = law.detach().sort(dim=-1, descending=True, stable=True)
            if most is not None:
                ordered[..., most:] = -torch.inf
            mass = ordered.log_softmax(dim=-1).exp()
            beyond = (mass.cumsum(dim=-1) - mass >= self.top_p) | (ordered == -torch.inf)
            law = law.masked_fill(torch.zeros_like(beyond).scatter(-1, index, beyond), -torch.inf).log_softmax(dim=-1)
        return law

    def __str__(self) -> str:
        """In words, such as "temperature 0.7, top-p 0.9"."""
        words = [f"temperature {self.temperature:g}"] if self.temperature != 1 else []
        words += [f"top-p {self.top_p:g}"] if self.top_p < 1 else []
        words += [f"top-k {self.top_k}"] if self.top_k is not None else []
        return ", ".join(words)


NEUTRAL = Tempering()
"""Draws from the law itself."""


def _signed(word: int) -> int:
    return word - (1 << 64)


def _shift(word: Tensor, bits: int) -> Tensor:
    """Shift right, zeros coming in from the left."""
    return (word >> bits) & ((1 << (64 - bits)) - 1)
