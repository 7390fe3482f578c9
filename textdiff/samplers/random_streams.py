"""Random numbers for sampling: every row of a batch has a stream of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Randomness = torch.Generator | Tensor
"""Source of a batch's random numbers: a generator, whose next numbers seed the rows, or the seeds themselves."""


def seed_generator(generator: torch.Generator, seed: int) -> None:
    """Seed a generator on the CPU with all 64 bits of a seed, of which `manual_seed` uses the lower 32 alone.

    Seeds below 2**32 give the numbers that `manual_seed` gives. Above, the words of the Mersenne twister are derived
    from the seed by numpy's `SeedSequence`.
    """
    generator.manual_seed(seed)
    if seed >= 2**32:
        state = generator.get_state()
        words = np.random.SeedSequence(seed).generate_state(WORDS).astype(np.int64)
        state.view(torch.int64)[HEAD : HEAD + WORDS] = torch.from_numpy(words)
        generator.set_state(state)


HEAD, WORDS = 3, 624
"""Where the words of the Mersenne twister are in the state of a generator, in units of 8 bytes."""


def row_seeds(generator: torch.Generator, rows: int) -> Tensor:
    """Seeds for a number of rows, the next numbers of `generator`: int64 `[rows]`."""
    return torch.randint(2**63 - 1, (rows,), generator=generator, device=generator.device)


@dataclass(frozen=True, eq=False)
class Streams:
    """One stream of random numbers per row, indexed by slot, so that a row's numbers depend on no other row or padding.

    Attributes:
        seeds: int64 `[batch]`.
        slots: bool `[batch, length]`, the slots that need random numbers.
    """

    seeds: Tensor
    slots: Tensor

    @classmethod
    def of(cls, source: Randomness, slots: Tensor) -> Streams:
        """Streams seeded by `source`, for the `slots` of a batch."""
        seeds = source if isinstance(source, Tensor) else row_seeds(source, len(slots))
        assert len(seeds) == len(slots)
        return cls(seeds.to(slots.device), slots)

    def uniforms(self, rows: Tensor, call: Tensor) -> tuple[Tensor, Tensor]:
        """Two fresh uniforms for each slot of some rows, `[rows, length]` each; `call [rows]` numbers a row's calls."""
        slots = self.slots[rows].long()
        start = 2 * call[:, None] * slots.sum(dim=1, keepdim=True)
        index = start + slots.cumsum(dim=1) - slots
        seeds = self.seeds[rows, None]
        return uniforms(seeds, index), uniforms(seeds, index + slots.sum(dim=1, keepdim=True))


def uniforms(seeds: Tensor, index: Tensor) -> Tensor:
    """Number `index` of the random stream `seeds`, float64 in [0, 1) with 53 random bits; int64 inputs that broadcast.

    SplitMix64 (Steele, Lea and Flood 2014): output i of a stream is a fixed mix of seed + i times an odd constant. It
    keeps no state, so one call evaluates thousands of streams, and none depends on which others are evaluated.
    """
    word = seeds + (index + 1) * _signed(0x9E3779B97F4A7C15)
    word = (word ^ _shift(word, 30)) * _signed(0xBF58476D1CE4E5B9)
    word = (word ^ _shift(word, 27)) * _signed(0x94D049BB133111EB)
    return _shift(word ^ _shift(word, 31), 11).double() * 2.0**-53


def _signed(word: int) -> int:
    """An unsigned 64-bit constant with its top bit set, as the int64 of the same bits."""
    return word - (1 << 64)


def _shift(word: Tensor, bits: int) -> Tensor:
    """Logical right shift."""
    return (word >> bits) & ((1 << (64 - bits)) - 1)
