"""Caches of keys and values: of the tokens so far in a causal network, of the evidence in a denoiser."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from textdiff.models.attention import attend, attend_with_mass, merge


class Attends(Protocol):
    """What a block may leave its attention to: a cache, or another way to see keys than all by all."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """Mixed values `[batch, heads, queries, head_dim]` of a layer, from its projections and attention mask."""
        ...


@dataclass
class KeyValueCache:
    """Keys and values of the tokens seen so far, one pair `[batch, heads, room, head_dim]` a layer.

    Args:
        room: tokens that memory is set aside for; it doubles when they are more.
    """

    room: int = 64
    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append the keys and values of new tokens to a layer and return all of them."""
        if layer == len(self.layers):
            self.layers.append((key[:, :, :0], value[:, :, :0]))
            self.seen.append(0)
        start, stop = self.seen[layer], self.seen[layer] + key.shape[2]
        if stop > self.layers[layer][0].shape[2]:
            self.room = max(self.room, 2 * start, stop)
            self.layers[layer] = (
                _roomier(self.layers[layer][0], self.room),
                _roomier(self.layers[layer][1], self.room),
            )
        keys, values = self.layers[layer]
        keys[:, :, start:stop], values[:, :, start:stop] = key, value
        self.seen[layer] = stop
        return keys[:, :, :stop], values[:, :, :stop]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """Attention of new tokens `[batch, heads, length, head_dim]` to all so far, themselves included."""
        keys, values = self.extend(layer, key, value)
        return attend(query, keys, values, bias)

    def select(self, rows: Tensor) -> KeyValueCache:
        """The cache of some rows, in that order; a row may be taken several times."""
        return KeyValueCache(self.room, [(key[rows], value[rows]) for key, value in self.layers], list(self.seen))

    def __len__(self) -> int:
        return self.seen[0] if self.seen else 0


def _roomier(some: Tensor, room: int) -> Tensor:
    """The same keys or values `[batch, heads, seen, head_dim]` with room for more."""
    larger = some.new_empty(*some.shape[:2], room, some.shape[3])
    larger[:, :, : some.shape[2]] = some
    return larger


@dataclass(frozen=True, eq=False)
class EvidenceCache:
    """Keys and values of observed tokens, held once for all rows whose evidence is the same.

    Exact where evidence attends to evidence only (`attention="isolated"`): no gap can change them.

    Args:
        layers: keys and values `[texts, heads, observed, head_dim]` of each layer; `texts` counts distinct evidence.
        bias: `[texts, 1, 1, observed]`, -inf at padding, 0 elsewhere; None: no text is padded.
        text: `[rows]`, which of the texts each row of the batch has as its evidence.
        place: `[rows]`, number of the row among those with the same evidence.
        most: rows that have the same evidence, at most.
    """

    layers: list[tuple[Tensor, Tensor]]
    bias: Tensor | None
    text: Tensor
    place: Tensor
    most: int

    @classmethod
    def of(cls, layers: list[tuple[Tensor, Tensor]], bias: Tensor | None, text: Tensor) -> EvidenceCache:
        """The cache of rows whose evidence are these `text [rows]`."""
        place = F.one_hot(text, len(layers[0][0])).cumsum(dim=0).gather(1, text[:, None])[:, 0] - 1
        return cls(layers, bias, text, place, int(place.max()) + 1)

    def select(self, rows: Tensor) -> EvidenceCache:
        """The cache of some of the rows, in that order; keys and values are shared, not copied."""
        text = self.text[rows]
        return self if torch.equal(text, self.text) else EvidenceCache.of(self.layers, self.bias, text)

    view = select  # nothing is ever added

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """Attention of gap tokens `[rows, heads, queries, head_dim]` to the evidence and to all tokens of the gaps.

        `bias [rows, 1, 1, gap]` is -inf at padding.
        """
        return merge(self.attend_to_evidence(layer, query), attend_with_mass(query, key, value, bias))

    def attend_to_evidence(self, layer: int, query: Tensor) -> tuple[Tensor, Tensor]:
        """Attention `[rows, heads, queries, head_dim]` to the evidence alone, and its mass: see `attend_with_mass`.

        Queries of all rows with the same evidence are laid end to end, so that its keys are loaded once for all of
        them.
        """
        keys, values = (x.to(query.dtype) for x in self.layers[layer])
        bias = None if self.bias is None else self.bias.to(query.dtype)
        mixed, mass = attend_with_mass(self._by_text(query), keys, values, bias)
        return self._of_rows(mixed, query), self._of_rows(mass[..., None], query)[..., 0]

    @cached_property
    def _one_each(self) -> bool:
        """Whether every row has evidence of its own, in the order of the rows."""
        return torch.equal(self.text, torch.arange(len(self.layers[0][0]), device=self.text.device))

    def _by_text(self, x: Tensor) -> Tensor:
        """Rows `[rows, heads, gap, any]` laid end to end by text, `[texts, heads, rows of a text x gap, any]`."""
        if self._one_each:
            return x
        if len(self.layers[0][0]) == 1:
            return rearrange(x, "n h g x -> 1 h (n g) x")
        laid = x.new_zeros(len(self.layers[0][0]), self.most, *x.shape[1:])
        return rearrange(laid.index_put((self.text, self.place), x), "t n h g x -> t h (n g) x")

    def _of_rows(self, x: Tensor, query: Tensor) -> Tensor:
        """The inverse of `_by_text`."""
        if self._one_each:
            return x
        if len(self.layers[0][0]) == 1:
            return rearrange(x, "1 h (n g) x -> n h g x", g=query.shape[2])
        return rearrange(x, "t h (n g) x -> t n h g x", g=query.shape[2])[self.text, self.place]
