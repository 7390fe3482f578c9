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

from textdiff.denoisers import CachedDenoiser, Denoiser
from textdiff.errors import UserError
from textdiff.samplers.lengths import rank_and_size
from textdiff.samplers.policies.confidence import entropy
from textdiff.text import Canvas, Vocabulary

BATCH = 32
NEAR = 1.15
"""Distances within this factor are counted together."""


BETWEEN = (0, 1, 2, 4)
"""Visible tokens between two positions, at least: what they tell about each other is measured for each apart."""


@final
@dataclass(frozen=True)
class Dependence:
    """Mutual information of two masked positions, as a share of the smaller of their two entropies in a whole gap.

    The entropies are what a denoiser says while all of the gap is masked; the share, which falls with the distance and
    with what has become visible in between, turns them into what the two will tell about each other when they are
    drawn. Of positions that are drawn in one step, the sum over pairs predicts what the product law loses against the
    joint (their total correlation, to second order).

    Attributes:
        shares: for each of `BETWEEN`, of positions 1, 2, 3, ... apart; the last counts for all that are further apart.
        gaps: held-out gaps that it was measured on.

    Raises:
        UserError: no shares, or one that is no number from 0 to 1.
    """

    shares: tuple[tuple[float, ...], ...]
    gaps: int = 0

    def __post_init__(self) -> None:
        sizes = {len(row) for row in self.shares}
        if len(self.shares) != len(BETWEEN) or len(sizes) != 1 or 0 in sizes:
            raise UserError(f"a dependence has {len(BETWEEN)} rows of shares, of one length: calibrate it again")
        if not all(isinstance(share, float | int) and 0 <= share <= 1 for row in self.shares for share in row):
            raise UserError("the shares of a dependence are numbers from 0 to 1: calibrate it again")

    def share(self, apart: Tensor, between: Tensor) -> Tensor:
        """The share at so many positions apart, with so many visible tokens in between; float64, 0 of no distance."""
        table = torch.tensor(self.shares, dtype=torch.float64, device=apart.device)
        table = torch.nn.functional.pad(table, (1, 0))
        seen = torch.bucketize(between, torch.tensor(BETWEEN, device=apart.device), right=True) - 1
        return table[seen, apart.clamp(max=table.shape[1] - 1)]

    def save(self, file: str | Path) -> None:
        """Write it as JSON."""
        content = {"shares": [[round(share, 6) for share in row] for row in self.shares], "gaps": self.gaps}
        Path(file).write_text(json.dumps(content) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: str | Path) -> Dependence:
        """Read what `save` wrote.

        Raises:
            UserError: the file holds something else.
        """
        try:
            content = json.loads(Path(file).read_text(encoding="utf-8"))
            return cls(tuple(tuple(row) for row in content["shares"]), int(content["gaps"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{str(file)!r} holds no dependence ({error}): run textdiff calibrate again") from error


@torch.no_grad()
def calibrate(
    denoiser: Denoiser,
    vocabulary: Vocabulary,
    items: Sequence[tuple[Canvas, Tensor]],
    generator: Generator,
    canvases: int = 24,
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
    information = torch.zeros(len(BETWEEN), width, dtype=torch.float64)
    possible = torch.zeros_like(information)
    bounds = torch.tensor(BETWEEN)
    for start in range(0, len(items), BATCH):
        progress(f"gap {start + 1} of {len(items)}")
        some = items[start : start + BATCH]
        filler = vocabulary.pad or 0
        canvas = Canvas.stack([canvas for canvas, _ in some], filler)
        truth = pad_sequence([tokens[0] for _, tokens in some], batch_first=True, padding_value=filler)
        reading = CachedDenoiser(denoiser, canvas.tokens, canvas.observed)

        def laws(rows: Tensor, masked: Tensor, truth: Tensor = truth, reading: CachedDenoiser = reading) -> Tensor:
            law = reading.log_probs(rows, truth[rows].masked_fill(masked, vocabulary.mask), masked).double()
            return law.masked_fill(forbidden, -torch.inf).log_softmax(dim=-1)

        everyone = torch.arange(len(some))
        whole = torch.zeros(truth.shape, dtype=torch.float64)
        whole = whole.masked_scatter(canvas.slots, entropy(laws(everyone, canvas.slots)))
        for _ in range(canvases):
            masked = _partly(canvas, generator)
            if not len(rows := (masked.sum(dim=1) > 1).nonzero()[:, 0]):
                continue
            masked = masked[rows]
            chosen = torch.multinomial(masked.double(), 1, generator=generator)
            left = masked.scatter(1, chosen, False)
            known, after = laws(rows, masked)[left[masked]], laws(rows, left)
            told = (after.exp() * (after - known).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)).sum(dim=-1)
            row, column = left.nonzero(as_tuple=True)
            start_, visible = chosen[row, 0], (~masked).long().cumsum(dim=1)
            between = (visible[row, column] - visible[row, start_]).abs()
            at = (torch.bucketize(between, bounds, right=True) - 1) * width + (column - start_).abs()
            most = torch.minimum(whole[rows][row, column], whole[rows][row, start_])
            information.view(-1).index_add_(0, at, told)
            possible.view(-1).index_add_(0, at, most)
    reached = int(possible.sum(dim=0).nonzero().max())
    shares = [
        tuple(_share(*pair, d) for d in range(1, reached + 1)) for pair in zip(information, possible, strict=True)
    ]
    return Dependence(tuple(shares), len(items))


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


def _share(information: Tensor, possible: Tensor, apart: int) -> float:
    near = slice(round(apart / NEAR), math.floor(apart * NEAR) + 1)
    return float((information[near].sum() / possible[near].sum().clamp(min=1e-12)).clamp(0, 1))
