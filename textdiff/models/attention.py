"""Attention: visibility masks, rotary positions, and scaled dot products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textdiff.models.config import Attention

SHORT = 256
"""Rows with fewer tokens are short, see `attend`."""

_FLASH_WITH_MASS = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
"""Torch's fused attention that also returns log-sum-exps: private, and so maybe absent; see `attend_with_mass`."""


def causal_visibility(segments: Tensor) -> Tensor:
    """Causal attention mask: document numbers `[batch, length]` (0 = padding) -> bool `[batch, length, length]`.

    Entry (i, j) says whether position i attends to position j: a token to itself and the earlier ones of its document.
    """
    length = segments.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    return (segments[:, :, None] == segments[:, None, :]) & earlier


def denoising_visibility(segments: Tensor, observed: Tensor, attention: Attention) -> Tensor:
    """Attention mask of a denoiser: bool `[batch, length, length]`, entry (i, j): whether i attends to j.

    Never across documents (`segments [batch, length]`, 0 = padding). With "isolated" attention observed tokens
    (`observed [batch, length]`) attend to observed tokens only, and a gap token to all.
    """
    visible = segments[:, :, None] == segments[:, None, :]
    if attention == "isolated":
        visible = visible & (observed[:, None, :] | ~observed[:, :, None])
    return visible


def causal_inputs(real: Tensor) -> tuple[Tensor | None, Tensor]:
    """What a causal network needs to skip some positions: the attention mask, and the rotary positions of the others.

    Args:
        real: bool `[batch, length]`, positions that hold text.

    Returns:
        bool `[batch, length, length]`, or None if all positions hold text, where torch needs no mask; and
        `[batch, length]`, in which real tokens are counted.
    """
    length = real.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=real.device).tril()
    return None if real.all() else real[:, None] & earlier, (real.cumsum(dim=1) - 1).clamp(min=0)


def last_before(real: Tensor) -> Tensor:
    """Column of the last real position left of each position, `[batch, length]`; -1 where there is none."""
    column = torch.where(real, torch.arange(real.shape[1], device=real.device), -1).cummax(dim=1).values
    return F.pad(column, (1, 0), value=-1)[:, :-1]


def attention_bias(visible: Tensor, x: Tensor) -> Tensor:
    """An attention mask `[batch, length, seen]` as a summand of scores, `[batch, 1, length, seen]`: 0 or -inf.

    In the type that attention on `x` computes in; made once, not in each block.
    """
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    return torch.zeros((), dtype=dtype, device=x.device).masked_fill(~visible[:, None], -torch.inf)


class Rotary(nn.Module):
    """Rotary positions: turns pairs of channels by an angle proportional to the position."""

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        self.head_dim, self.theta = head_dim, theta

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Positions `[batch, length]` -> cosines and sines `[batch, 1, length, head_dim / 2]` in float32."""
        exponents = torch.arange(0, self.head_dim, 2, device=positions.device, dtype=torch.float32) / self.head_dim
        angles = positions[:, None, :, None].float() * self.theta**-exponents
        return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the two halves of the channels of `x [batch, heads, length, head_dim]` against each other."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, causal: bool = False) -> Tensor:
    """Scaled dot-product attention `[batch, heads, length, head_dim]`.

    By torch's own function, but step by step where gradients are wanted of short rows on a CPU: there the backward pass
    of torch's takes six times as long on 66 tokens in bfloat16, twice as long on 128, as long on 256 and less on 512
    (`tests/benchmarks/test_attention.py`).

    Args:
        query, key, value: `[batch, heads, length, head_dim]`; there may be more keys and values than queries.
        bias: `[batch, 1, length, seen]`, 0 or -inf; None: every query sees every key.
        causal: each query sees its own key and the earlier ones, of as many keys as queries; `bias` is None then.
    """
    assert bias is None or not causal
    learns = query.device.type == "cpu" and query.shape[2] < SHORT and torch.is_grad_enabled()
    if not learns or (bias is None and not causal):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, is_causal=causal)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if bias is None:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    else:
        scores = scores + bias
    scores = scores.clamp(min=torch.finfo(scores.dtype).min)  # a row that sees nothing is no NaN
    return scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype) @ value


def attend_with_mass(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attention to a part of the keys, and its total weight, so that `merge` can add the other keys.

    On a CPU without gradients by torch's fused kernel, if this version of torch has it; otherwise by public functions.

    Returns:
        The mixed values `[batch, heads, length, head_dim]`, and the log-sum-exp of each query's scores
        `[batch, heads, length]` in at least float32, which is next to -inf for a query that sees nothing.
    """
    finite = None if bias is None else bias.clamp(min=torch.finfo(bias.dtype).min)
    if _FLASH_WITH_MASS is not None and query.device.type == "cpu" and not torch.is_grad_enabled():
        shape = (*query.shape[:3], key.shape[2])
        mask = None if finite is None else finite.expand(shape[0], *finite.shape[1:3], shape[3])
        return _FLASH_WITH_MASS(query, key, value, attn_mask=mask)
    scores = query @ key.mT * query.shape[-1] ** -0.5
    scores = scores if finite is None else scores + finite
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return scores.softmax(dim=-1).to(value.dtype) @ value, scores.logsumexp(dim=-1)


def merge(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """Attention to the union of two disjoint sets of keys, from `attend_with_mass` to each: exact."""
    share = (second[1] - first[1]).sigmoid()[..., None]
    return torch.lerp(first[0], second[0], share.to(first[0].dtype))


def compact(where: Tensor) -> tuple[Tensor, Tensor]:
    """Columns where `where [rows, length]` is true, in order, and which of these are no filler: two `[rows, most]`."""
    count = where.sum(dim=1, keepdim=True)
    at = (~where).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(count.max())]
    return at, torch.arange(at.shape[1], device=at.device) < count
