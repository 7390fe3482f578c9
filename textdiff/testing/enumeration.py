"""What all checks share: every fill of a small canvas, frequencies, total variation, and the noise of iid draws."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from textdiff.text import Canvas, Vocabulary

MOST_FILLS = 2**17
"""Fills that a check enumerates, at most."""


def enumerate_fills(canvas: Canvas, vocabulary: Vocabulary) -> Tensor:
    """Every way to put content or null into the slots of a one-row canvas: tokens `[fills, length]`.

    Raises:
        ValueError: the canvas has several rows, or more fills than can be enumerated.
    """
    if len(canvas) != 1:
        raise ValueError(f"a canvas of {len(canvas)} rows, expected one")
    ids = (~vocabulary.forbidden).nonzero()[:, 0]
    slots = canvas.slots[0]
    count = int(slots.sum())
    if len(ids) ** count > MOST_FILLS:
        raise ValueError(f"{len(ids)} tokens in {count} slots are too many fills to enumerate: give a smaller gap")
    choices = torch.cartesian_prod(*[ids] * count).view(-1, count)
    tokens = canvas.tokens.repeat(len(choices), 1)
    tokens[:, slots] = choices
    return tokens


def frequencies(drawn: Tensor, outcomes: Tensor) -> Tensor:
    """Share of each of `outcomes [outcomes, length]` among the rows `drawn [draws, length]`: float64 `[outcomes]`.

    Raises:
        AssertionError: a row is none of the outcomes.
    """
    rows, place = torch.cat((outcomes, drawn)).unique(dim=0, return_inverse=True)
    counts = torch.zeros(len(rows), dtype=torch.float64)
    counts = counts.index_add(0, place[len(outcomes) :], torch.ones(len(drawn), dtype=torch.float64))
    shares = counts[place[: len(outcomes)]] / len(drawn)
    assert abs(float(shares.sum()) - 1) < 1e-9, "something was drawn that is no fill of the gap"
    return shares


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half the sum of absolute differences of two distributions `[outcomes]`: 0 to 1."""
    return float((p - q).abs().sum() / 2)


def iid_noise(probs: Tensor, draws: int, repeats: int = 50) -> float:
    """Mean total variation between `probs [outcomes]` and the frequencies of so many iid draws from it."""
    total = 0.0
    for seed in range(repeats):
        generator = Generator().manual_seed(seed)
        drawn = torch.multinomial(probs, draws, replacement=True, generator=generator)
        total += total_variation(drawn.bincount(minlength=len(probs)) / draws, probs)
    return total / repeats
