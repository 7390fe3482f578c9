"""The neighbour input: what a masked slot of a denoiser is given beside its mask embedding.

The input of a masked slot is the sum of the mask embedding, the embedding of its left neighbour, and a linear map (the
weight `following`) of the embeddings of its next `RIGHT_NEIGHBOURS` tokens; and its rotary position is that of the left
neighbour. The left part makes the slot after known text pose the query that an autoregressive network poses there, so
that the weights of one are a working start for the other. The right part is what such weights lack, a sense of what
follows; its map starts at zero. Neighbours beyond the text, or that attention may not see, count as zeros.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RIGHT_NEIGHBOURS = 4
"""How many tokens to its right are part of a masked slot's input."""

NEIGHBOURS = (-1, *range(1, RIGHT_NEIGHBOURS + 1))
"""Offsets of the neighbours: one to the left, then those to the right."""


def neighbour_embeddings(x: Tensor, visible: Tensor | None, masked: Tensor) -> Tensor:
    """Embeddings of the neighbours of all masked slots, `[masked.sum(), 5, width]`.

    Args:
        x: embeddings `[batch, length, width]`.
        visible: bool `[batch, length, length]`, attention mask; None: all is visible.
        masked: bool `[batch, length]`.
    """
    return torch.stack([_shifted(x, visible, offset)[masked] for offset in NEIGHBOURS], dim=1)


def with_neighbours(x: Tensor, masked: Tensor, near: Tensor, following: nn.Module) -> Tensor:
    """Inputs `[batch, length, width]` of the first block: `x` with the neighbour input in masked slots.

    Args:
        x: embeddings `[batch, length, width]`.
        masked: bool `[batch, length]`.
        near: embeddings of their neighbours `[masked.sum(), 5, width]`.
        following: linear map of the right neighbours, from `RIGHT_NEIGHBOURS * width` to `width`.
    """
    inputs = x[masked] + near[:, 0] + following(near[:, 1:].flatten(1))
    return x.masked_scatter(masked[..., None], inputs.to(x.dtype))


def _shifted(x: Tensor, visible: Tensor | None, offset: int) -> Tensor:
    """What stands `offset` places to the right of each position of `x [batch, length, width]`; 0 where unseen."""
    before, after = max(-offset, 0), max(offset, 0)
    moved = F.pad(x, (0, 0, before, after))[:, after : after + x.shape[1]]
    if visible is None:
        return moved
    seen = F.pad(visible.diagonal(offset=offset, dim1=1, dim2=2), (before, after))
    return moved * seen[:, : x.shape[1], None]
