"""The cache of an order-causal network: keys and values of the evidence, and of the tokens that have been revealed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textdiff.models.attention import attend, attend_with_mass, attention_bias, compact, merge
from textdiff.models.block import Block
from textdiff.models.cache import EvidenceCache


@final
@dataclass(frozen=True, eq=False)
class RevealedCache:
    """Keys and values of all content rows so far. Exact: no token that is revealed later changes them.

    Evidence is held once for all rows that have the same; what was revealed, and the token before each gap, for each
    row. (That token is not visible to the query after it, whose input repeats it.) A single row holds all by itself.

    Args:
        evidence: what is shared; None: nothing is.
        keys, values: of each layer, `[batch, places, heads, head_dim]`: the first place holds nothing, then there is
            room for what each row holds, and then for the queries of a step.
        columns: `[batch, 1 + room]`, the column of the canvas whose token each place holds, -1 where it holds none.
        rows: `[rows]`, the rows of the batch that this is a view of; None: all.
    """

    evidence: EvidenceCache | None
    keys: list[Tensor]
    values: list[Tensor]
    columns: Tensor
    rows: Tensor | None = None

    @classmethod
    def begin(cls, evidence: EvidenceCache, number: Tensor, shown: Tensor, border: Tensor, slots: int) -> RevealedCache:
        """A cache in which nothing is revealed.

        Args:
            evidence: all of it, with a bias that hides the tokens before gaps.
            number: `[batch, length]`, number of each observed token among those of its text.
            shown: bool `[batch, length]`, the observed tokens.
            border: bool `[batch, length]`, those before gaps.
            slots: most slots in the gaps of a row.
        """
        alone = len(shown) == 1
        at, inside = compact(shown if alone else border)
        text, which = evidence.text[:, None], number.gather(1, at)
        room, held = at.shape[1] + slots, slice(1, 1 + at.shape[1])

        def places(some: Tensor) -> Tensor:
            empty = some.new_zeros(len(border), 1 + room + slots, some.shape[1], some.shape[3])
            empty[:, held] = some[text, :, which]
            return empty

        columns = at.new_full((len(border), 1 + room), -1)
        columns[:, held] = at.masked_fill(~inside, -1)
        keys, values = zip(*evidence.layers, strict=True)
        return cls(None if alone else evidence, list(map(places, keys)), list(map(places, values)), columns)

    @classmethod
    def empty(cls, blocks: Iterable[nn.Module], head_dim: int, slots: Tensor, like: Tensor) -> RevealedCache:
        """A cache without evidence, for the `slots`, bool `[batch, length]`, in the type of `like`."""
        most = int(slots.sum(dim=1).max())
        heads = [block.heads for block in blocks if isinstance(block, Block)]
        keys, values = (
            [like.new_zeros(len(slots), 1 + 2 * most, count, head_dim) for count in heads] for _ in range(2)
        )
        return cls(None, keys, values, torch.full((len(slots), 1 + most), -1, device=slots.device))

    def select(self, rows: Tensor) -> RevealedCache:
        """A copy of some rows, in that order; keys and values of evidence are shared."""
        own = rows if self.rows is None else self.rows[rows]
        return RevealedCache(
            None if self.evidence is None else self.evidence.select(rows),
            [key[own] for key in self.keys],
            [value[own] for value in self.values],
            self.columns[own],
        )

    def view(self, rows: Tensor) -> RevealedCache:
        """Some rows, in that order and each once: what is added to them is added to this cache."""
        if len(rows) == len(self.columns):  # all, which are in order
            return self
        return replace(self, evidence=None if self.evidence is None else self.evidence.select(rows), rows=rows)

    @property
    def memory(self) -> int:
        """Bytes of all keys and values; those of evidence count once for all rows."""
        evidence = [] if self.evidence is None else [tensor for layer in self.evidence.layers for tensor in layer]
        return sum(tensor.numel() * tensor.element_size() for tensor in (*evidence, *self.keys, *self.values))

    @property
    def own_columns(self) -> Tensor:
        """`columns` of these rows, `[rows, 1 + room]`."""
        return self.columns if self.rows is None else self.columns[self.rows]

    def holds(self, length: int) -> Tensor:
        """The columns whose tokens these rows hold, bool `[rows, length]`."""
        columns = self.own_columns
        held = torch.zeros(len(columns), 1 + length, dtype=torch.bool, device=columns.device)
        return held.scatter(1, columns + 1, True)[:, 1:]

    def drop(self, masked: Tensor) -> None:
        """Forget tokens that have been masked again, bool `[rows, length]`.

        Tokens that were revealed while these stood keep the keys and values that they had.
        """
        columns = self.own_columns
        gone = masked.gather(1, columns.clamp(min=0)) & (columns >= 0)
        if gone.any():
            self._put_columns(columns.masked_fill(gone, -1))

    def places_for(self, at: Tensor, inside: Tensor, queries: int) -> Tensor:
        """Reserve places for new tokens, and for queries.

        Args:
            at: columns of new tokens `[rows, new]`.
            inside: bool `[rows, new]`, which of these are no filler.
            queries: their number.

        Returns:
            The places `[rows, new + queries]`, 0 for filler.
        """
        columns, room = self.own_columns, self.columns.shape[1]
        for layer in range(len(self.keys)):  # seldom: positions outside the gaps are asked about
            if (missing := room + queries - self.keys[layer].shape[1]) > 0:
                self.keys[layer] = F.pad(self.keys[layer], (0, 0, 0, 0, 0, missing))
                self.values[layer] = F.pad(self.values[layer], (0, 0, 0, 0, 0, missing))
        places = at
        if at.shape[1]:
            free = compact(columns[:, 1:] < 0)[0][:, : at.shape[1]] + 1
            places = free.masked_fill(~inside, 0)
            self._put_columns(columns.scatter(1, places, at).index_fill(1, places.new_zeros(1), -1))
        return torch.cat((places, torch.arange(room, room + queries, device=at.device).expand(len(at), -1)), dim=1)

    def write(self, layer: int, where: tuple[Tensor, Tensor], key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values `[rows, heads, new + queries, head_dim]`; returns all that these rows have.

        Args:
            layer: number of the layer.
            where: rows of the batch `[rows, 1]` and places `[rows, new + queries]`.
            key, value: of new tokens and queries.
        """
        found = []
        for held, new in ((self.keys[layer], key), (self.values[layer], value)):
            held[where] = new.transpose(1, 2).to(held.dtype)
            some = held if self.rows is None else held[self.rows]
            found.append(some.transpose(1, 2).to(new.dtype))
        return found[0], found[1]

    def _put_columns(self, columns: Tensor) -> None:
        self.columns[slice(None) if self.rows is None else self.rows] = columns


@final
class StepAttention:
    """Attention of new content rows and of query rows, in this order, to what a cache holds and to themselves.

    Args:
        cache: of the rows; the keys and values of new content rows are added to it.
        places: `[rows, new + asked]`, from `RevealedCache.places_for`.
        visible: bool `[rows, new + asked, 1 + room]`, what of the held tokens each row sees.
        new: number of content rows.
        x: the input of the first block.
    """

    def __init__(self, cache: RevealedCache, places: Tensor, visible: Tensor, new: int, x: Tensor) -> None:
        rows = torch.arange(len(places), device=places.device) if cache.rows is None else cache.rows
        self._cache, self._where = cache, (rows[:, None], places)
        itself = torch.eye(places.shape[1], dtype=torch.bool, device=x.device)[:, new:].expand(len(visible), -1, -1)
        unused = cache.keys[0].shape[1] - visible.shape[2] - itself.shape[2]
        self._bias = attention_bias(F.pad(torch.cat((visible, itself), dim=2), (0, unused)), x)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """Attention of the last rows, as many as queries are given; `bias` is not used.

        Args:
            layer: number of the layer.
            query: `[rows, heads, last, head_dim]`.
            key, value: `[rows, heads, new + asked, head_dim]`.
        """
        own = self._cache.write(layer, self._where, key, value)
        hidden, evidence = self._bias[:, :, -query.shape[2] :], self._cache.evidence
        if evidence is None:
            return attend(query, *own, hidden)
        return merge(evidence.attend_to_evidence(layer, query), attend_with_mass(query, *own, hidden))
