"""How much two masked positions tell about each other, measured once for a denoiser, by their distance."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Generator, Tensor
from torch.nn.utils.rnn import pad_sequence

from textdiff.diffusion import Denoiser, Reading
from textdiff.errors import UserError
from textdiff.samplers.confidence import entropy
from textdiff.samplers.lengths import rank_and_size
from textdiff.text import Canvas, Vocabulary

BATCH = 32
NEAR = 1.15
"""Distances within this factor are counted together."""


@final
@dataclass(frozen=True)
class Dependence:
    """Mutual information of two masked positions, as a share of the smaller of their two entropies.

    The entropies are what a denoiser says of a canvas; the share is what remains to be known, and depends on the
    distance above all. Among positions that are drawn in one step, the sum over pairs predicts what the product law
    loses against the joint (their total correlation, to second order).

    Attributes:
        shares: of positions 1, 2, 3, ... apart; the last counts for all that are further apart.
        gaps: held-out gaps that it was measured on.

    Raises:
        UserError: no shares, or one that is no number from 0 to 1.
    """

    shares: tuple[float, ...]
    gaps: int = 0

    def __post_init__(self) -> None:
        if not self.shares or not all(isinstance(share, float | int) and 0 <= share <= 1 for share in self.shares):
            raise UserError("a dependence has a share from 0 to 1 for each distance, 1 first: calibrate it again")

    def information(self, entropies: Tensor, position: Tensor) -> Tensor:
        """Predicted mutual information of all pairs, nats `[batch, slots, slots]`, 0 of a slot with itself.

        Args:
            entropies: of the slots' marginals, nats `[batch, slots]`; 0 for what is no masked slot.
            position: of each slot in the text `[batch, slots]`.
        """
        shares = torch.tensor((0.0, *self.shares), dtype=entropies.dtype, device=entropies.device)
        apart = (position[:, :, None] - position[:, None]).abs().clamp(max=len(self.shares))
        return shares[apart] * torch.minimum(entropies[:, :, None], entropies[:, None])

    def save(self, file: str | Path) -> None:
        """Write it as JSON."""
        content = {"shares": [round(share, 6) for share in self.shares], "gaps": self.gaps}
        Path(file).write_text(json.dumps(content) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: str | Path) -> Dependence:
        """Read what `save` wrote.

        Raises:
            UserError: the file holds something else.
        """
        try:
            content = json.loads(Path(file).read_text(encoding="utf-8"))
            return cls(tuple(content["shares"]), int(content["gaps"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{str(file)!r} holds no dependence ({error}): run textdiff calibrate again") from error


@torch.no_grad()
def calibrate(
    denoiser: Denoiser,
    vocabulary: Vocabulary,
    items: Sequence[tuple[Canvas, Tensor]],
    generator: Generator,
    canvases: int = 12,
    progress: Callable[[str], None] = lambda stage: None,
) -> Dependence:
    """Measure how much the true token of one masked slot tells a denoiser about the other masked slots.

    Of each gap some slots are revealed: those that a strided order of a random stride would have revealed by a random
    step, or (three in ten) slots at random. Then one more is, and the information is KL(law after || law before) at
    each slot that stays masked; its mean over true texts is the mutual information, if the denoiser is right.

    Args:
        denoiser: on the device of the items.
        vocabulary: of the denoiser.
        items: canvases of one row with their gaps, and true texts `[1, length]`.
        generator: of the canvases.
        canvases: partly revealed canvases of each item.
        progress: told how far it is.

    Raises:
        UserError: no gap has two slots.
    """
    forbidden = vocabulary.to(items[0][0].tokens.device).forbidden if items else vocabulary.forbidden
    longest = max((int(canvas.slots.sum()) for canvas, _ in items), default=0)
    if longest < 2:
        raise UserError("to calibrate a dependence takes gaps of two tokens or more")
    width = max(tokens.shape[1] for _, tokens in items)
    information = torch.zeros(width, dtype=torch.float64)
    possible = torch.zeros(width, dtype=torch.float64)
    for start in range(0, len(items), BATCH):
        progress(f"gap {start + 1} of {len(items)}")
        some = items[start : start + BATCH]
        filler = vocabulary.pad or 0
        canvas = Canvas.stack([canvas for canvas, _ in some], filler)
        truth = pad_sequence([tokens[0] for _, tokens in some], batch_first=True, padding_value=filler)
        reading, rows = Reading(denoiser, canvas.tokens, canvas.observed), torch.arange(len(some))
        for _ in range(canvases):
            masked = _partly(canvas, generator)
            if not len(rows := (masked.sum(dim=1) > 1).nonzero()[:, 0]):
                continue
            masked, tokens = masked[rows], truth[rows]
            before = _laws(reading, rows, tokens, masked, vocabulary.mask, forbidden)
            chosen = torch.multinomial(masked.double(), 1, generator=generator)
            left = masked.scatter(1, chosen, False)
            after = _laws(reading, rows, tokens, left, vocabulary.mask, forbidden)
            entropies = torch.zeros(masked.shape, dtype=torch.float64).masked_scatter(masked, entropy(before))
            known = before[left[masked]]
            told = (after.exp() * (after - known).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)).sum(dim=-1)
            row, column = left.nonzero(as_tuple=True)
            apart = (column - chosen[row, 0]).abs()
            most = torch.minimum(entropies[row, column], entropies[row, chosen[row, 0]])
            information.index_add_(0, apart, told)
            possible.index_add_(0, apart, most)
    reached = int(possible.nonzero().max())
    return Dependence(tuple(_share(information, possible, d) for d in range(1, reached + 1)), len(items))


def _partly(canvas: Canvas, generator: Generator) -> Tensor:
    """Slots that stay masked, bool `[batch, length]`."""
    shape, device = canvas.slots.shape, canvas.tokens.device
    rank, size = rank_and_size(canvas.gap)
    luck = torch.rand(3, shape[0], 1, generator=generator, dtype=torch.float64).to(device)
    longest = size.amax(dim=1, keepdim=True).clamp(min=2).double()
    stride = longest.pow(luck[0]).clamp(min=2).ceil().long()
    later = rank % stride >= (luck[1] * stride).long()
    random = torch.rand(shape, generator=generator, dtype=torch.float64).to(device) < luck[1]
    return canvas.slots & torch.where(luck[2] < 0.3, random, later)


def _laws(reading: Reading, rows: Tensor, tokens: Tensor, masked: Tensor, mask: int, forbidden: Tensor) -> Tensor:
    law = reading.log_probs(rows, tokens.masked_fill(masked, mask), masked).double()
    return law.masked_fill(forbidden, -torch.inf).log_softmax(dim=-1)


def _share(information: Tensor, possible: Tensor, apart: int) -> float:
    near = slice(round(apart / NEAR), math.floor(apart * NEAR) + 1)
    return float((information[near].sum() / possible[near].sum().clamp(min=1e-12)).clamp(0, 1))
