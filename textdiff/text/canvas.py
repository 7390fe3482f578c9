"""Partly known token sequences: which positions are evidence, which are gaps, and how long each gap may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from textdiff.text.token_dfa import ProductDFA


@dataclass(frozen=True, eq=False)
class Canvas:
    """A batch of partly observed texts. G is the most gaps of any row.

    Attributes:
        tokens: `[batch, length]` long, the mask id at unknown slots, the pad id right of a shorter row.
        observed: `[batch, length]` bool, True on evidence and on padding, False on gap slots.
        gap: `[batch, length]` long, number of the slot's gap in its row (0, 1, ...), -1 outside gaps.
        minimum: `[batch, G]` long, least number of tokens that are not null in each gap; 0 for gaps a row lacks.
        word_start: `[batch, length]` bool, slots whose token must begin with a blank unless it is null.
        dfa: the constraint automaton that the texts of all rows must satisfy; None: no constraint.
    """

    tokens: Tensor
    observed: Tensor
    gap: Tensor
    minimum: Tensor
    word_start: Tensor
    dfa: ProductDFA | None = None

    def __post_init__(self) -> None:
        assert self.tokens.shape == self.observed.shape == self.gap.shape == self.word_start.shape
        assert len(self.minimum) == len(self.tokens)

    @classmethod
    def of(cls, tokens: Tensor, mask_id: int) -> Canvas:
        """Every run of `mask_id` in `tokens [batch, length]` is a gap of exactly that length."""
        slots = tokens == mask_id
        gap = torch.where(slots, (slots & ~pad(slots, (1, -1))).cumsum(1) - 1, -1)
        return cls(tokens, ~slots, gap, _sizes(gap, int(gap.max()) + 1), torch.zeros_like(slots))

    @classmethod
    def stack(cls, canvases: Sequence[Canvas], pad_id: int) -> Canvas:
        """All rows of all canvases in one batch, the shorter ones padded on the right; none may have a constraint."""
        assert all(canvas.dfa is None for canvas in canvases)
        length = max(canvas.tokens.shape[1] for canvas in canvases)
        gaps = max(canvas.minimum.shape[1] for canvas in canvases)
        fill = {"tokens": pad_id, "observed": True, "gap": -1, "minimum": 0, "word_start": False}

        def concatenated(name: str) -> Tensor:
            width = gaps if name == "minimum" else length
            rows = (getattr(canvas, name) for canvas in canvases)
            return torch.cat([pad(row, (0, width - row.shape[1]), value=fill[name]) for row in rows])

        tokens, observed, gap, minimum, word_start = map(concatenated, fill)
        return cls(tokens, observed, gap, minimum, word_start)

    @property
    def slots(self) -> Tensor:
        """`[batch, length]` bool, the positions to fill."""
        return self.gap >= 0

    @property
    def maximum(self) -> Tensor:
        """`[batch, G]` long, the number of slots of each gap; 0 for gaps a row lacks."""
        return _sizes(self.gap, self.minimum.shape[1])

    def repeat(self, n: int) -> Canvas:
        """Each row `n` times, copies side by side."""
        return self._map(lambda x: x.repeat_interleave(n, dim=0))

    def select(self, rows: Tensor) -> Canvas:
        """The given rows, as indices or as a bool mask."""
        return self._map(lambda x: x[rows])

    def to(self, device: torch.device | str) -> Canvas:
        """The same canvas on `device`."""
        moved = self._map(lambda x: x.to(device))
        return moved if self.dfa is None else replace(moved, dfa=self.dfa.to(device))

    def free(self) -> Canvas:
        """The same canvas without its constraint automaton."""
        return self if self.dfa is None else replace(self, dfa=None)

    def with_open_gaps(self, longest: int) -> Canvas:
        """The canvas of one row in which each gap may have any number of tokens from 1 to `longest`.

        Each gap must have at most `longest` slots; evidence keeps its order, and constraints are dropped.
        """
        gap = self.with_added_slots(self.gap, longest)
        tokens = self.with_added_slots(self.tokens, longest)
        word_start = self.with_added_slots(self.word_start, longest, value=False)
        return Canvas(tokens, gap < 0, gap, torch.ones_like(self.minimum), word_start)

    def with_added_slots(self, row: Tensor, longest: int, value: int | None = None) -> Tensor:
        """A row `[1, length]` as it is laid out on `with_open_gaps(longest)`.

        Args:
            row: anything that belongs to the positions of this canvas of one row, such as a complete text.
            longest: slots that each gap has afterwards, at least as many as it has now.
            value: what the added slots hold; None: what the last slot of their gap holds.
        """
        assert len(self) == len(row) == 1
        pieces, start = [], 0
        for number, size in enumerate(self.maximum[0].tolist()):
            assert 0 < size <= longest
            stop = int((self.gap[0] == number).nonzero()[-1]) + 1
            last = row[:, stop - 1 : stop]
            added = last.expand(1, longest - size) if value is None else last.new_full((1, longest - size), value)
            pieces += [row[:, start:stop], added]
            start = stop
        return torch.cat((*pieces, row[:, start:]), dim=1)

    def __len__(self) -> int:
        return len(self.tokens)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Canvas:
        tensors = [field.name for field in fields(self) if field.name != "dfa"]
        return Canvas(**{name: change(getattr(self, name)) for name in tensors}, dfa=self.dfa)


def _sizes(gap: Tensor, gaps: int) -> Tensor:
    """Number of slots of each gap, `[batch, G]`."""
    return (gap[:, :, None] == torch.arange(gaps, device=gap.device)).sum(1)
