"""Evidence and gaps computed apart: possible where evidence attends to evidence only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from textdiff.models.attention import Rotary, attention_bias, compact
from textdiff.models.block import Block
from textdiff.models.cache import EvidenceCache, KeyValueCache
from textdiff.models.neighbours import NEIGHBOURS, with_neighbours


@final
@dataclass(frozen=True)
class EvidenceEncoder:
    """The parts of a denoiser with isolated attention, run on the evidence and on the gaps in turn.

    The keys and values of evidence do not depend on what is in the gaps: they are computed once for all rows and steps
    (`encode`), and each step computes the gaps alone (`gap_states`).

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

    def encode(self, canvas: Tensor, shown: Tensor) -> EvidenceCache:
        """Keys and values of the evidence, computed once for rows that have the same.

        Args:
            canvas: ids `[batch, length]`, without null.
            shown: bool `[batch, length]`, evidence that is no padding.
        """
        evidence, text = canvas.masked_fill(~shown, -1).unique(dim=0, return_inverse=True)
        at, inside = compact(evidence >= 0)
        x, store = self.embedding(evidence.gather(1, at).clamp(min=0)), KeyValueCache(at.shape[1])
        rotary, bias = self.rotary(at), None if inside.all() else attention_bias(inside[:, None], x)
        finite = None if bias is None else bias.clamp(min=torch.finfo(bias.dtype).min)  # no evidence is no NaN
        *first, last = self.blocks
        assert isinstance(last, Block)
        for block in first:
            x = block.forward(x, rotary, finite, store)  # not compiled: the sizes change all the time
        store.extend(last.layer, *last.project(x, rotary)[1:])
        return EvidenceCache.of(store.layers, bias, text)

    def gap_states(
        self, canvas: Tensor, observed: Tensor, real: Tensor, where: Tensor, evidence: EvidenceCache
    ) -> Tensor:
        """Final hidden states `[where.sum(), width]` of positions in the gaps.

        Args:
            canvas: ids `[batch, length]`, without null.
            observed: bool `[batch, length]`, evidence and padding.
            real: bool `[batch, length]`, all but padding.
            where: bool `[batch, length]`, positions outside the evidence.
            evidence: of these rows, from `encode`.
        """
        at, inside = compact(~observed & real)
        around = at[..., None] + torch.tensor(NEIGHBOURS, device=at.device)
        tokens, x = canvas.gather(1, at), self.embedding(canvas.gather(1, at))
        masked = (tokens == self.mask_id) & inside
        row, column = masked.nonzero()[:, :1], around[masked]
        inner = column.clamp(0, canvas.shape[1] - 1)
        near = self.embedding(canvas[row, inner]) * ((inner == column) & real[row, inner])[..., None]
        x = with_neighbours(x, masked, near, self.following)
        rotary = self.rotary(at - masked.long())
        bias = None if inside.all() else attention_bias(inside[:, None], x)
        *first, last = self.blocks
        assert isinstance(last, Block)
        for block in first:
            x = block.forward(x, rotary, bias, evidence)
        columns, kept = compact(where.gather(1, at) & inside)
        return self.norm(last.forward(x, rotary, bias, evidence, columns)[kept])
