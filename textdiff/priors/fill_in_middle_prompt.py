"""Prompts of fill-in-the-middle: the evidence of a canvas, followed by columns for its gaps (arXiv:2207.14255)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from textdiff.errors import UserError
from textdiff.posterior.capabilities import Layout
from textdiff.samplers.lengths import rank_and_size
from textdiff.text import Canvas, Vocabulary
from textdiff.text.fill_in_middle import layout_evidence


@dataclass(eq=False)
class Prompt:
    """A batch of texts as a causal network sees them: the evidence first, then columns for the tokens of each gap.

    The columns of the gaps are filled in place as the gaps are decoded or scored.

    Attributes:
        tokens: `[batch, width]`.
        real: bool `[batch, width]`, columns that hold a token so far.
        positions: rotary positions `[batch, width]`.
        open: bool `[batch, gaps]`, gaps that have not ended.
        starts: column of the first token of each gap.
        eos: the token that ends a gap.
    """

    tokens: Tensor
    real: Tensor
    positions: Tensor
    open: Tensor
    starts: list[int]
    eos: int

    @classmethod
    def of(cls, canvas: Canvas, vocabulary: Vocabulary, layout: Layout, context: int | None) -> Prompt:
        """The prompt of a canvas; no gap has a token yet.

        Raises:
            UserError: it is longer than the context.
        """
        assert vocabulary.eos is not None
        device, gaps = canvas.tokens.device, canvas.minimum.shape[1]
        rows = [
            layout_evidence(pieces, vocabulary, layout == "spm" and len(pieces) == 2)
            for pieces in map(_pieces, canvas.tokens.tolist(), canvas.gap.tolist(), [vocabulary.pad] * len(canvas))
        ]
        longest = max(len(row.ids) for row in rows)
        most = canvas.maximum.amax(dim=0).tolist()
        starts, width = [], longest
        for slots in most:
            starts.append(width + 1)  # the mask that opens the gap, its slots, its end
            width += slots + 2
        if context is not None and (needed := longest + int((canvas.maximum + 2).sum(dim=1).max())) > context:
            raise UserError(
                f"the text takes {needed} tokens once its gaps are marked, and the model reads at most {context}: "
                "shorten the text or its gaps, e.g. [gap:1-16]"
            )
        tokens = torch.zeros(len(canvas), width, dtype=torch.long, device=device)
        real = torch.zeros_like(tokens, dtype=torch.bool)
        positions = torch.zeros_like(tokens)
        for number, row in enumerate(rows):
            here = slice(0, len(row.ids))
            tokens[number, here], real[number, here] = torch.tensor(row.ids, device=device), True
            positions[number, here] = torch.tensor(row.positions, device=device)
            for start, slots, place in zip(starts, most, row.starts, strict=False):
                positions[number, start - 1 : start + slots + 1] = place + torch.arange(-1, slots + 1, device=device)
        there = canvas.maximum > 0
        for gap in range(gaps):
            tokens[:, starts[gap] - 1] = vocabulary.mask
            real[:, starts[gap] - 1] = there[:, gap]
        return cls(tokens, real, positions, there.clone(), starts, vocabulary.eos)

    def places(self, canvas: Canvas) -> Iterator[tuple[int, int, int, Tensor]]:
        """Each place in turn: gap, rank in the gap, column here, and the column `[batch]` of that slot in the canvas.

        A gap has one place more than slots, where a gap that has all its tokens ends.
        """
        rank, _ = rank_and_size(canvas.gap)
        most = canvas.maximum.amax(dim=0).tolist()
        for gap, start in enumerate(self.starts):
            for number in range(most[gap] + 1):
                if not self.open[:, gap].any():
                    break
                slot = ((canvas.gap == gap) & (rank == number)).long().argmax(dim=1)
                yield gap, number, start + number, slot

    def end(self, rows: Tensor, gap: int, column: int) -> None:
        """End a gap of some rows, bool `[batch]`."""
        self.tokens[rows, column], self.real[rows, column] = self.eos, True
        self.open[rows, gap] = False


def _pieces(tokens: list[int], gap: list[int], pad: int | None) -> list[list[int]]:
    """The evidence of a row before, between and behind its gaps."""
    pieces: list[list[int]] = [[]]
    for i, (token, number) in enumerate(zip(tokens, gap, strict=True)):
        if number >= 0:
            if i == 0 or gap[i - 1] != number:
                pieces.append([])
        elif token != pad:
            pieces[-1].append(token)
    return pieces
