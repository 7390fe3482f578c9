"""Order-causal attention: revealed tokens are read once, in the order in which they were revealed.

Each position has a reveal time: -1 for evidence, from 0 on for the tokens of gaps. There are two kinds of rows, which
share all weights:

* The *content* row of a token that is known attends to the content rows of all tokens with an earlier time, to those
  left of it with the same time, and to itself. So nothing that is revealed later changes it.
* The *query* row of a position that is asked about attends to the content rows with an earlier time, and to itself.
  Queries do not see each other. Its input is the embedding of its left neighbour, or that of the mask where the left
  neighbour is not revealed yet, plus a linear map of the embeddings of its next tokens (`textdiff.models.neighbours`);
  its rotary position is that of the left neighbour, whose content row it repeats and does not attend to.

From left to right, with nothing behind the gap, both kinds of rows are those of an autoregressive network; with text
behind it they are those of fill-in-the-middle. Kin: AO-GPT (arXiv:2506.19935), A3 (arXiv:2601.13228), XLNet's two
streams (arXiv:1906.08237).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from textdiff.models.attention import Rotary, attend, attention_bias, compact
from textdiff.models.block import Block
from textdiff.models.cache import EvidenceCache
from textdiff.models.neighbours import NEIGHBOURS
from textdiff.models.revealed_cache import RevealedCache, StepAttention

UNREVEALED = 2**31 - 1
"""Reveal time of what is still masked: after all others."""


@final
@dataclass(frozen=True)
class OrderCausalRows:
    """The parts of an order-causal network, run on documents as a whole (training), or on evidence and gaps in turn.

    Args:
        embedding, blocks, norm, rotary, following: modules of the network.
        mask_id: the mask token.
    """

    embedding: nn.Module
    blocks: nn.ModuleList
    norm: nn.Module
    rotary: Rotary
    following: nn.Module
    mask_id: int

    def document_states(
        self,
        tokens: Tensor,
        times: Tensor,
        content: Tensor,
        where: Tensor,
        segments: Tensor,
        positions: Tensor,
        recompute: bool = False,
    ) -> Tensor:
        """Final hidden states of query rows `[where.sum(), width]`, in one pass over all rows of several documents.

        Args:
            tokens: the clean ids `[batch, length]`.
            times: reveal times `[batch, length]`.
            content: bool `[batch, length]`, positions with a content row.
            where: bool `[batch, length]`, positions with a query row.
            segments: document numbers `[batch, length]`.
            positions: rotary positions `[batch, length]`.
            recompute: keep only what enters each block for the backward pass.
        """
        document = segments + (int(segments.max()) + 1) * torch.arange(len(segments), device=segments.device)[:, None]
        known, asked = content.nonzero(), where.nonzero()
        by_time = times[content].argsort(stable=True)
        known = known[by_time][document[content][by_time].argsort(stable=True)]
        row, column = known.unbind(dim=1)
        queries = self._query_inputs(tokens, times, content, segments, asked, times[where])
        x = torch.cat((self.embedding(tokens[row, column]), queries))[None]
        rotary = self.rotary(torch.cat((positions[row, column], positions[where] - 1))[None])
        attention = DocumentAttention.of(
            x, (document[row, column], times[row, column], column), (document[where], times[where], asked[:, 1])
        )
        for block in self.blocks:
            if recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, rotary, None, attention, use_reentrant=False)
            else:
                x = block(x, rotary, None, attention)
        return self.norm(x[0, len(known) :])

    def encode(self, canvas: Tensor, observed: Tensor, real: Tensor) -> RevealedCache:
        """Keys and values of the evidence, computed once for rows that have the same; room for what is revealed.

        Args:
            canvas: ids `[batch, length]`, without null.
            observed: bool `[batch, length]`, evidence and padding.
            real: bool `[batch, length]`, all but padding.
        """
        shown, slots = observed & real, ~observed & real
        border = shown & F.pad(slots[:, 1:], (0, 1))
        texts, text = canvas.masked_fill(~shown, -1).masked_fill(slots, -2).unique(dim=0, return_inverse=True)
        at, inside = compact(texts >= 0)
        if not at.shape[1]:
            return RevealedCache.empty(self.blocks, self.rotary.head_dim, slots, self.embedding(canvas[:1, :1]))
        x, store = self.embedding(texts.gather(1, at).clamp(min=0)), _CausalKeysAndValues()
        rotary = self.rotary(at)
        *first, last = self.blocks
        assert isinstance(last, Block)
        for block in first:
            x = block.forward(x, rotary, None, store)
        store.layers.append(last.project(x, rotary)[1:])
        shared = inside & ~F.pad(texts[:, 1:] == -2, (0, 1)).gather(1, at)
        bias = torch.zeros(shared.shape, dtype=x.dtype, device=x.device).masked_fill(~shared, -torch.inf)
        evidence = EvidenceCache.of(store.layers, bias[:, None, None], text)
        number = ((texts >= 0).cumsum(dim=1) - 1)[text]
        return RevealedCache.begin(evidence, number, shown, border, int(slots.sum(dim=1).max()))

    def gap_states(
        self, canvas: Tensor, observed: Tensor, real: Tensor, where: Tensor, times: Tensor | None, cache: RevealedCache
    ) -> Tensor:
        """Final hidden states `[where.sum(), width]` of query rows; what was revealed since the last call is cached.

        Args:
            canvas: ids `[rows, length]`, without null.
            observed: bool `[rows, length]`, evidence and padding.
            real: bool `[rows, length]`, all but padding.
            where: bool `[rows, length]`, positions with a query row.
            times: reveal times `[rows, length]` of known tokens, -1 for evidence; what is masked comes after all. None:
                known tokens of gaps were revealed at once, and all that is asked about comes after them.
            cache: of these rows, from `encode`; extended in place.
        """
        known = ~observed & real & (canvas != self.mask_id)
        cache.drop(~known & ~observed)
        new = known & ~cache.holds(canvas.shape[1])
        masked = torch.ones_like(where) if times is None else canvas == self.mask_id
        times = torch.zeros_like(canvas) if times is None else times
        asked_at = times.masked_fill(masked, UNREVEALED)
        (at, inside), (column, asked) = compact(new), compact(where)
        row = torch.arange(len(canvas), device=canvas.device)[:, None].expand_as(column)[asked]
        pairs = torch.stack((row, column[asked]), dim=1)
        queries = self._query_inputs(
            canvas, times.masked_fill(observed, -1), known | observed & real, None, pairs, asked_at[where]
        )
        x = self.embedding(canvas.gather(1, at))
        x = torch.cat((x, x.new_zeros(*column.shape, x.shape[2]).masked_scatter(asked[..., None], queries)), dim=1)
        rotary = self.rotary(torch.cat((at, column - 1), dim=1))
        places = cache.places_for(at, inside, column.shape[1])
        visible = _visible(cache, places, (at, times.gather(1, at)), (column, asked_at.gather(1, column)))
        attention = StepAttention(cache, places, visible, at.shape[1], x)
        *first, last = self.blocks
        assert isinstance(last, Block)
        for block in first:
            x = block.forward(x, rotary, None, attention)
        rows = torch.arange(at.shape[1], x.shape[1], device=x.device).expand_as(column)
        return self.norm(last.forward(x, rotary, None, attention, rows)[asked])

    def _query_inputs(
        self, tokens: Tensor, times: Tensor, content: Tensor, segments: Tensor | None, asked: Tensor, asked_at: Tensor
    ) -> Tensor:
        """Inputs of query rows, `[queries, width]`.

        Args:
            tokens, times: `[rows, length]`.
            content: bool `[rows, length]`, positions with a content row.
            segments: document numbers, likewise; None: there is one document in a row.
            asked: rows and columns `[queries, 2]`.
            asked_at: reveal times `[queries]`.
        """
        row, column = asked[:, :1], asked[:, 1:] + torch.tensor(NEIGHBOURS, device=asked.device)
        inner = column.clamp(0, tokens.shape[1] - 1)
        seen = (inner == column) & content[row, inner] & (times[row, inner] < asked_at[:, None])
        if segments is not None:
            seen &= segments[row, inner] == segments[row, asked[:, 1:]]
        left, right = inner[:, :1], inner[:, 1:]
        beside = self.embedding(torch.where(seen[:, :1], tokens[row, left], self.mask_id))[:, 0]
        following = self.embedding(tokens[row, right]) * seen[:, 1:, None]
        return beside + self.following(following.flatten(1)).to(beside.dtype)


def _visible(cache: RevealedCache, places: Tensor, new: tuple[Tensor, Tensor], asked: tuple[Tensor, Tensor]) -> Tensor:
    """Which held tokens the new content rows and the query rows attend to, bool `[rows, new + asked, 1 + room]`.

    Args:
        cache: of the rows, with the columns of new tokens.
        places: where new tokens and queries are, `[rows, new + asked]`.
        new: columns and times `[rows, new]` of new tokens.
        asked: columns and times `[rows, asked]` of queries.
    """
    columns, count = cache.own_columns, new[0].shape[1]
    times = torch.full_like(columns, -1).scatter(1, places[:, :count], new[1])
    earlier = times[:, None] < torch.cat((new[1], asked[1]), dim=1)[..., None]
    tie = (times[:, None] == new[1][..., None]) & (columns[:, None] <= new[0][..., None])
    content = earlier[:, :count] | tie
    query = earlier[:, count:] & (columns[:, None] != asked[0][..., None] - 1)
    return torch.cat((content, query), dim=1) & (columns >= 0)[:, None]


@final
@dataclass
class _CausalKeysAndValues:
    """Causal attention that keeps the keys and values of each layer, `[texts, heads, length, head_dim]`."""

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """Attention of each token to itself and the earlier ones."""
        self.layers.append((key, value))
        return attend(query, key, value, bias, causal=True)


WASTE = 1.2
"""Rows with padding for each row without, at most, where documents of similar sizes are computed together."""


@final
@dataclass(frozen=True, eq=False)
class DocumentAttention:
    """Attention among the rows of documents that are laid end to end: first all content rows, then all query rows.

    The content rows of a document are sorted by time and position: among them attention is causal, and needs no mask.
    Documents of similar sizes are padded and computed together.

    Args:
        groups: of each group the content rows `[documents, contents]`, the query rows `[documents, queries]`, and what
            queries see, `[documents, 1, queries, contents]`, 0 or -inf.
        place: of each row among the padded rows of all groups, group by group, content rows first: `[rows]`.
    """

    groups: list[tuple[Tensor, Tensor, Tensor]]
    place: Tensor

    @classmethod
    def of(
        cls, x: Tensor, contents: tuple[Tensor, Tensor, Tensor], queries: tuple[Tensor, Tensor, Tensor]
    ) -> DocumentAttention:
        """The attention for rows `x [1, contents + queries, width]`.

        Args:
            contents, queries: documents, times and columns of the rows, `[contents]` and `[queries]`, by document;
                content rows of a document by time and column.
        """
        documents, which = torch.cat((contents[0], queries[0])).unique(return_inverse=True)
        counts = [part.bincount(minlength=len(documents)) for part in which.split([len(contents[0]), len(queries[0])])]
        starts = [count.cumsum(dim=0) - count for count in counts]
        starts[1] = starts[1] + len(contents[0])
        times, columns = (torch.cat(pair) for pair in zip(contents[1:], queries[1:], strict=True))
        groups, place, begin = [], torch.empty(len(times), dtype=torch.long, device=x.device), 0
        for group in _similar(*(count.tolist() for count in counts)):
            some = torch.tensor(group, device=x.device)
            padded, inside = [], []
            for count, start in zip(counts, starts, strict=True):
                number = torch.arange(int(count[some].max()), device=x.device)
                inside.append(number < count[some, None])
                padded.append((start[some, None] + number).where(inside[-1], 0))
                places = torch.arange(begin, begin + inside[-1].numel(), device=x.device).view_as(inside[-1])
                place[padded[-1][inside[-1]]] = places[inside[-1]]
                begin += inside[-1].numel()
            content, query = padded
            visible = times[content][:, None] < times[query][..., None]
            visible &= (columns[content][:, None] != columns[query][..., None] - 1) & inside[0][:, None]
            groups.append((content, query, attention_bias(visible, x)))
        return cls(groups, place)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """Attention of all rows `[1, heads, contents + queries, head_dim]`; `bias` is not used."""
        by_row, mixed = [x[0].transpose(0, 1) for x in (query, key, value)], []

        def rows(which: Tensor) -> list[Tensor]:
            return [x.index_select(0, which.flatten()).unflatten(0, which.shape).transpose(1, 2) for x in by_row]

        for contents, queries, hidden in self.groups:
            (asked, keys, values), own = rows(contents), rows(queries)
            of_contents = attend(asked, keys, values, None, causal=True)
            of_queries = _attend_with_own(own[0], own[1], own[2], keys, values, hidden)
            mixed += [some.transpose(1, 2).flatten(0, 1) for some in (of_contents, of_queries)]
        return torch.cat(mixed).index_select(0, self.place).transpose(0, 1)[None]


def _attend_with_own(
    query: Tensor, own_key: Tensor, own_value: Tensor, key: Tensor, value: Tensor, bias: Tensor
) -> Tensor:
    """Attention of each of the queries `[batch, heads, queries, head_dim]` to keys under a mask, and to its own key."""
    scale = query.shape[-1] ** -0.5
    own = (query * own_key).sum(dim=-1, keepdim=True) * scale
    scores = torch.cat((query @ key.mT * scale + bias, own), dim=-1)
    weights = scores.softmax(dim=-1, dtype=torch.promote_types(own.dtype, torch.float32)).to(value.dtype)
    return weights[..., :-1] @ value + weights[..., -1:] * own_value


def _similar(contents: list[int], queries: list[int]) -> list[list[int]]:
    """Groups of documents, by number, of so similar numbers of rows that padding them wastes little, see `WASTE`."""
    groups: list[list[int]] = []
    for document in sorted(range(len(contents)), key=lambda number: (contents[number], queries[number])):
        more = [*groups[-1], document] if groups else [document]
        padded = len(more) * (max(contents[number] for number in more) + max(queries[number] for number in more))
        if groups and padded <= WASTE * sum(contents[number] + queries[number] for number in more):
            groups[-1] = more
        else:
            groups.append([document])
    return groups
