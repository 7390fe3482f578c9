"""Who looks at whom, from where, and how: masks, rotary positions, and attention itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textdiff.models.config import Attention

SHORT = 256
"""Rows with fewer tokens are short, see `attend`."""


def causal_visibility(segments: Tensor) -> Tensor:
    """Who may look at whom, left to right: `[batch, length]` document numbers (0 = padding) -> bool `[batch, L, L]`.

    A token sees itself and the earlier tokens of its own document.
    """
    length = segments.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    return (segments[:, :, None] == segments[:, None, :]) & earlier


def denoising_visibility(segments: Tensor, observed: Tensor, attention: Attention) -> Tensor:
    """Who may look at whom in a denoiser: bool `[batch, length, length]`, row looks at column.

    Never across documents (`segments [batch, length]`, 0 = padding). With "isolated" attention observed tokens
    (`observed [batch, length]`) see only observed tokens; a gap token sees all.
    """
    visible = segments[:, :, None] == segments[:, None, :]
    if attention == "isolated":
        visible = visible & (observed[:, None, :] | ~observed[:, :, None])
    return visible


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


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Scaled dot-product attention `[batch, heads, length, head_dim]`; `bias [batch, 1, length, seen]` is 0 or -inf.

    Written out where a CPU has to learn from short rows: the backward pass of torch's own takes six times as long on 66
    tokens in bfloat16, twice as long on 128, as long on 256 and less on 512 (`tests/benchmarks/test_attention.py`).
    """
    if bias is None or query.device.type != "cpu" or query.shape[2] >= SHORT or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias
    scores = scores.clamp(min=torch.finfo(scores.dtype).min)  # a row that sees nothing is no NaN
    return scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype) @ value


def attend_with_mass(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """`attend` to some of the keys, and how much the scores of these weigh: what `merge` needs to add others.

    Returns:
        The mixed values `[batch, heads, length, head_dim]`, and the log-sum-exp of each query's scores
        `[batch, heads, length]` in at least float32. A query that sees nothing weighs next to nothing.
    """
    finite = None if bias is None else bias.clamp(min=torch.finfo(bias.dtype).min)
    if query.device.type == "cpu" and not torch.is_grad_enabled():
        shape = (*query.shape[:3], key.shape[2])
        mask = None if finite is None else finite.expand(shape[0], *finite.shape[1:3], shape[3])
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, attn_mask=mask)
    scores = query @ key.mT * query.shape[-1] ** -0.5
    scores = scores if finite is None else scores + finite
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return scores.softmax(dim=-1).to(value.dtype) @ value, scores.logsumexp(dim=-1)


def merge(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """Attention to the keys of both, from what `attend_with_mass` makes of each: exact."""
    share = (second[1] - first[1]).sigmoid()[..., None]
    return torch.lerp(first[0], second[0], share.to(first[0].dtype))


def compact(where: Tensor) -> tuple[Tensor, Tensor]:
    """Columns at which `where [rows, length]` holds, in order, and which of these are real: two `[rows, most]`."""
    count = where.sum(dim=1, keepdim=True)
    at = (~where).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(count.max())]
    return at, torch.arange(at.shape[1], device=at.device) < count
