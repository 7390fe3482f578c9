"""Partly known token sequences: which positions are evidence, which are gaps, and how long each gap may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from textdiff.errors import UserError
from textdiff.files.fields import check_fields, instance, whole
from textdiff.text.product_dfa import ProductDFA

_TENSOR = instance(Tensor, "a tensor")
_FIELDS = dict.fromkeys(("tokens", "observed", "gap", "minimum", "word_start"), _TENSOR)
_FIELDS |= {"dfa": instance(ProductDFA, "the automaton of a constraint").optional()}
_TYPES = {"tokens": torch.long, "observed": torch.bool, "gap": torch.long, "minimum": torch.long}
_TYPES |= {"word_start": torch.bool}


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

    Raises:
        UserError: tensors of other shapes or types; their values are checked by `check`.
    """

    tokens: Tensor
    observed: Tensor
    gap: Tensor
    minimum: Tensor
    word_start: Tensor
    dfa: ProductDFA | None = None

    def __post_init__(self) -> None:
        check_fields(vars(self), _FIELDS)
        for name, kind in _TYPES.items():
            given, shape = getattr(self, name), self.minimum.shape[1:] if name == "minimum" else self.tokens.shape[1:]
            if given.ndim != 2 or given.dtype != kind or given.shape != (len(self.tokens), *shape):
                expected = "[batch, gaps]" if name == "minimum" else "[batch, length], as all tensors but minimum"
                raise UserError(f"{name} of a canvas is {_of_kind(given)}: expected {_named(kind)} {expected}")

    def check(self, size: int, mask: int) -> None:
        """Check the values of a canvas that may come from anywhere.

        Args:
            size: of the vocabulary.
            mask: id of the mask token, which all slots hold.

        Raises:
            UserError: an id outside the vocabulary, a slot that is observed or holds a token, gaps that are not
                numbered from left to right, or a gap of fewer slots than its minimum.
        """
        tokens, gap = self.tokens, self.gap
        if not tokens.numel():
            raise UserError(f"a canvas is {_of_kind(tokens)}: expected at least one token")
        if (bad := (tokens < 0) | (tokens >= size)).any():
            raise UserError(f"a canvas holds the token id {int(tokens[bad][0])}, outside a vocabulary of {size} tokens")
        begins = self.slots & (gap != pad(gap, (1, -1), value=-1))
        if (self.observed == self.slots).any() or (tokens[self.slots] != mask).any():
            raise UserError("a canvas and its gaps differ: expected observed=False and the mask id at all slots")
        if (gap != torch.where(self.slots, begins.cumsum(1) - 1, -1)).any() or int(gap.max()) >= self.minimum.shape[1]:
            raise UserError("the gaps of a canvas have other numbers than 0, 1, ... from left to right, -1 outside")
        if ((self.minimum < 0) | (self.minimum > self.maximum)).any():
            raise UserError("the minimum of a gap in a canvas is below 0, or above the number of its slots")

    @classmethod
    def of(cls, tokens: Tensor, mask_id: int) -> Canvas:
        """Every run of `mask_id` in `tokens [batch, length]` is a gap of exactly that length.

        Raises:
            UserError: `tokens` are no whole numbers of two dimensions, or `mask_id` is no id.
        """
        _TENSOR.check("tokens", tokens)
        whole(0).check("mask_id", mask_id)
        if tokens.ndim != 2 or tokens.dtype != torch.long or not tokens.numel():
            raise UserError(f"tokens is {_of_kind(tokens)}: expected int64 [batch, length], at least one token")
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
    counts = torch.zeros(len(gap), gaps + 1, dtype=torch.long, device=gap.device)
    return counts.scatter_add(1, gap + 1, torch.ones_like(gap))[:, 1:]


def _of_kind(given: Tensor) -> str:
    """Type and shape of a tensor, in words."""
    return f"{_named(given.dtype)} {list(given.shape)}"


def _named(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")
