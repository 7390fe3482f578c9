"""The dependence of masked positions on each other, by distance, measured once for a denoiser."""

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
from textdiff.files import read_json, write_text
from textdiff.files.fields import is_number
from textdiff.samplers.lengths import rank_and_size
from textdiff.samplers.policies.confidence import entropy
from textdiff.text import Canvas, Vocabulary

BATCH = 32
NEAR = 1.15
"""Distances within this factor are pooled."""

BETWEEN = (0, 1, 2, 4)
"""Classes of position pairs, each measured separately, by the least number of visible tokens between the two."""


@final
@dataclass(frozen=True)
class Dependence:
    """Mutual information of two masked positions, as a share of the smaller of their entropies in a fully masked gap.

    The entropies are those of the denoiser's marginals while the whole gap is masked; times the share, which falls with
    the distance and with the visible tokens in between, they predict the mutual information of the two positions when
    they are drawn. For positions that are drawn in one step, the sum over pairs predicts the loss of the product of
    marginals against the joint (their total correlation, to second order).

    Attributes:
        shares: for each of `BETWEEN`, of positions 1, 2, 3, ... apart; the last holds for all larger distances.
        gaps: number of held-out gaps that it was measured on.

    Raises:
        UserError: no shares, or one that is no number from 0 to 1.
    """

    shares: tuple[tuple[float, ...], ...]
    gaps: int = 0

    def __post_init__(self) -> None:
        sizes = {len(row) for row in self.shares}
        if len(self.shares) != len(BETWEEN) or len(sizes) != 1 or 0 in sizes:
            raise UserError(f"a dependence has {len(BETWEEN)} rows of shares, of one length: calibrate it again")
        if not all(is_number(share) and 0 <= share <= 1 for row in self.shares for share in row):
            raise UserError("the shares of a dependence are numbers from 0 to 1: calibrate it again")

    def share(self, apart: Tensor, between: Tensor) -> Tensor:
        """The share of pairs by distance and number of visible tokens in between; float64, 0 at distance 0."""
        table = torch.tensor(self.shares, dtype=torch.float64, device=apart.device)
        table = torch.nn.functional.pad(table, (1, 0))
        row = torch.bucketize(between, torch.tensor(BETWEEN, device=apart.device), right=True) - 1
        return table[row, apart.clamp(max=table.shape[1] - 1)]

    def json(self) -> str:
        """It as JSON."""
        content = {"shares": [[round(share, 6) for share in row] for row in self.shares], "gaps": self.gaps}
        return json.dumps(content) + "\n"

    def save(self, file: str | Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_text(Path(file), self.json())

    @classmethod
    def load(cls, file: str | Path) -> Dependence:
        """Load the file of `save`.

        Raises:
            UserError: the file holds something else.
        """
        try:
            content = read_json(Path(file))
            return cls(tuple(tuple(row) for row in content["shares"]), int(content["gaps"]))
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise UserError(
                f"{str(file)!r} holds no dependence ({error}): run textdiff calibrate again, or delete the file"
            ) from error


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

    Some slots of each gap are revealed: those that a strided order of a random stride would have revealed by a random
    step, or (three in ten) slots at random. Then one more is, and the information about each slot that stays masked is
    the KL divergence of its distribution after from that before; the mean over true texts is the mutual information, if
    the denoiser is right.

    Args:
        denoiser: on the device of the items.
        vocabulary: of the denoiser.
        items: canvases of one row with their gaps, and true texts `[1, length]`.
        generator: of the canvases.
        canvases: partly revealed canvases of each item.
        progress: called with a word on how far the work is.

    Raises:
        UserError: no gap has two slots.
    """
    longest = max((int(canvas.slots.sum()) for canvas, _ in items), default=0)
    if longest < 2:
        raise UserError("to calibrate a dependence takes gaps of two tokens or more")
    totals = _Totals(max(tokens.shape[1] for _, tokens in items))
    filler = vocabulary.pad or 0
    for start in range(0, len(items), BATCH):
        progress(f"gap {start + 1} of {len(items)}")
        some = items[start : start + BATCH]
        canvas = Canvas.stack([canvas for canvas, _ in some], filler)
        truth = pad_sequence([tokens[0] for _, tokens in some], batch_first=True, padding_value=filler)
        batch = _Batch(denoiser, vocabulary, canvas, truth)
        for _ in range(canvases):
            batch.measure(totals, generator)
    return Dependence(totals.shares(), len(items))


class _Totals:
    """Sums of information and of the entropy that bounds it, by visible tokens in between and distance.

    Args:
        width: number of distances.
    """

    def __init__(self, width: int) -> None:
        self.information = torch.zeros(len(BETWEEN), width, dtype=torch.float64)
        self.possible = torch.zeros_like(self.information)

    def add(self, between: Tensor, apart: Tensor, information: Tensor, possible: Tensor) -> None:
        """Count pairs of slots; all are `[pairs]`."""
        at = (torch.bucketize(between, torch.tensor(BETWEEN), right=True) - 1) * self.information.shape[1] + apart
        self.information.view(-1).index_add_(0, at, information)
        self.possible.view(-1).index_add_(0, at, possible)

    def shares(self) -> tuple[tuple[float, ...], ...]:
        """Information over possible information, smoothed over similar distances, see `Dependence`."""
        reached = int(self.possible.sum(dim=0).nonzero().max())
        return tuple(
            tuple(_share(*pair, d) for d in range(1, reached + 1))
            for pair in zip(self.information, self.possible, strict=True)
        )


class _Batch:
    """Some gaps and their true tokens `[batch, length]`, measured with one denoiser."""

    def __init__(self, denoiser: Denoiser, vocabulary: Vocabulary, canvas: Canvas, truth: Tensor) -> None:
        self._denoiser = CachedDenoiser(denoiser, canvas.tokens, canvas.observed)
        self._mask, self._forbidden = vocabulary.mask, vocabulary.to(canvas.tokens.device).forbidden
        self._canvas, self._truth = canvas, truth
        entropies = entropy(self._log_probs(torch.arange(len(canvas)), canvas.slots))
        self._entropies = torch.zeros(truth.shape, dtype=torch.float64).masked_scatter(canvas.slots, entropies)

    def measure(self, totals: _Totals, generator: Generator) -> None:
        """Reveal some slots of each gap, then one more, and count what that says about the others."""
        masked = _partly(self._canvas, generator)
        if not len(rows := (masked.sum(dim=1) > 1).nonzero()[:, 0]):
            return
        masked = masked[rows]
        chosen = torch.multinomial(masked.double(), 1, generator=generator)
        left = masked.scatter(1, chosen, False)
        before, after = self._log_probs(rows, masked)[left[masked]], self._log_probs(rows, left)
        information = (after.exp() * (after - before).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)).sum(dim=-1)
        row, column = left.nonzero(as_tuple=True)
        revealed, visible = chosen[row, 0], (~masked).long().cumsum(dim=1)
        between = (visible[row, column] - visible[row, revealed]).abs()
        possible = torch.minimum(self._entropies[rows][row, column], self._entropies[rows][row, revealed])
        totals.add(between, (column - revealed).abs(), information, possible)

    def _log_probs(self, rows: Tensor, masked: Tensor) -> Tensor:
        """Log-probs of the `masked [rows, length]` slots while they are masked: float64 `[masked.sum(), vocab]`."""
        canvas = self._truth[rows].masked_fill(masked, self._mask)
        log_probs = self._denoiser.log_probs(rows, canvas, masked).double()
        return log_probs.masked_fill(self._forbidden, -torch.inf).log_softmax(dim=-1)


def _partly(canvas: Canvas, generator: Generator) -> Tensor:
    """The slots of a random canvas that stay masked, bool `[batch, length]`."""
    shape, device = canvas.slots.shape, canvas.tokens.device
    rank, size = rank_and_size(canvas.gap)
    draw = torch.rand(3, shape[0], 1, generator=generator, dtype=torch.float64).to(device)
    longest = size.amax(dim=1, keepdim=True).clamp(min=2).double()
    stride = longest.pow(draw[0]).clamp(min=2).ceil().long()
    later = rank % stride >= (draw[1] * stride).long()
    random = torch.rand(shape, generator=generator, dtype=torch.float64).to(device) < draw[1]
    return canvas.slots & torch.where(draw[2] < 0.3, random, later)


def _share(information: Tensor, possible: Tensor, apart: int) -> float:
    """Information over possible information `[distances]` at one distance, pooled with similar ones."""
    near = slice(round(apart / NEAR), math.floor(apart * NEAR) + 1)
    return float((information[near].sum() / possible[near].sum().clamp(min=1e-12)).clamp(0, 1))
