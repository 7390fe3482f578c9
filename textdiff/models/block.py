"""One block of the transformer: attention and a feed-forward network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textdiff.models.attention import attend, rotate
from textdiff.models.cache import Attends
from textdiff.models.config import TransformerConfig


class Block(nn.Module):
    """Pre-norm attention and SwiGLU, each added to the residual stream."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        width, self.heads, self.layer = config.hidden_size, config.num_attention_heads, layer
        self.attention_norm = nn.RMSNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_norm = nn.RMSNorm(width // self.heads, eps=1e-6)
        self.key_norm = nn.RMSNorm(width // self.heads, eps=1e-6)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_norm = nn.RMSNorm(width, eps=1e-6)
        self.gate_up = nn.Linear(width, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, width, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        bias: Tensor | None,
        cache: Attends | None,
        columns: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Residual stream `[batch, length, width]` -> the same shape, or `[batch, queries, width]`.

        Args:
            x: the residual stream.
            rotary: cosines and sines of the positions, see `Rotary`.
            bias: attention mask as a summand, see `attention_bias`.
            cache: keys and values of other tokens, which are attended to as well, or another way to attend.
            columns: `[batch, queries]`, the positions that are computed; the others only give keys and values.
            causal: attention is causal, without a `bias` that says so; not with a cache.
        """
        query, key, value = self.project(x, rotary)
        if columns is not None:
            x = x.take_along_dim(columns[..., None], dim=1)
            query = query.take_along_dim(columns[:, None, :, None], dim=2)
        if cache is None:
            mixed = attend(query, key, value, bias, causal)
        else:
            mixed = cache.attend(self.layer, query, key, value, bias)
        return self.finish(x, mixed)

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The residual stream `[batch, queries, width]` after attention gave `mixed`, and the feed-forward network."""
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        gate, up = self.gate_up(self.feed_norm(x)).chunk(2, dim=-1)
        return x + self.dropout(self.down(F.silu(gate) * up))

    def project(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values `[batch, heads, length, head_dim]` of a residual stream."""
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        gain = torch.stack((self.query_norm.weight, self.key_norm.weight))[:, None, None, None]
        both = F.rms_norm(qkv[:2], qkv.shape[-1:], eps=1e-6) * gain  # one call for two norms: most of it is the call
        query, key = rotate(both, *rotary).to(qkv.dtype)
        return query, key, qkv[2]
