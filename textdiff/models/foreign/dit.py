"""The network of MDLM (arXiv:2406.07524): a pre-norm transformer with rotary positions, without its time embedding.

A published MDLM network is evaluated at one fixed time. All that adaptive layer norm then does is to scale and shift by
constants, which `folded` works into layer norms and output matrices: what remains is a plain transformer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from textdiff.models.attention import Rotary, attend, attention_bias, rotate

FREQUENCIES = 256
"""Size of MDLM's time features: half of them cosines, half sines."""


class DiTConfig(PreTrainedConfig):
    """Shape of a `DiT`; the feed-forward layers are four times as wide as the residual stream."""

    model_type = "textdiff-dit"

    def __init__(
        self,
        vocab_size: int = 50258,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        max_position_embeddings: int = 1024,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        self.dropout = dropout
        super().__init__(**kwargs)
        self.tie_word_embeddings = False


class DiTBlock(nn.Module):
    """Attention and a GELU network, each added to the residual stream."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, self.heads = config.hidden_size, config.num_attention_heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """Residual stream `[batch, length, width]` -> the same shape."""
        qkv = rearrange(self.qkv(self.attention_norm(x)), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        mixed = attend(rotate(qkv[0], *rotary), rotate(qkv[1], *rotary), qkv[2], bias)
        x = x + self.dropout(self.out(rearrange(mixed, "b h l d -> b l (h d)")))
        return x + self.dropout(self.down(F.gelu(self.up(self.feed_norm(x)), approximate="tanh")))


class DiT(PreTrainedModel):
    """Token ids -> hidden states, called as an encoder of transformers is; `lm_head` turns them into logits."""

    config_class = DiTConfig
    base_model_prefix = ""
    _supports_sdpa = True
    _no_split_modules = ["DiTBlock"]  # noqa: RUF012  (transformers reads this class attribute)

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.rotary = Rotary(config.hidden_size // config.num_attention_heads, theta=10_000.0)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        assert isinstance(value, nn.Embedding)
        self.embedding = value

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        assert isinstance(new_embeddings, nn.Linear)
        self.lm_head = new_embeddings

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, use_cache: bool = False
    ) -> BaseModelOutput:
        """Hidden states `[batch, length, width]`.

        Args:
            input_ids: `[batch, length]`.
            attention_mask: bool `[batch, 1, length, length]`, whether a position (row) attends to another (column).
            position_ids: `[batch, length]`.
            use_cache: has no effect: there is no cache.
        """
        x, rotary = self.embedding(input_ids), self.rotary(position_ids)
        bias = attention_bias(attention_mask[:, 0], x)
        for block in self.blocks:
            x = block(x, rotary, bias)
        return BaseModelOutput(last_hidden_state=self.norm(x))


def folded(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Names and values of a `DiT`'s parameters from those of a published MDLM, evaluated at sigma = 0.

    A norm n that is scaled and shifted by constants is another norm, n (1 + scale) + shift; a gate on the output of a
    matrix is a matrix whose rows are scaled.

    Raises:
        KeyError: a parameter is missing.
    """
    remaining = {name.removeprefix("backbone."): name for name in weights}

    def weight_of(name: str) -> Tensor:
        return weights[remaining.pop(name)].float()

    half = torch.ones(FREQUENCIES // 2)
    time = F.linear(torch.cat((half, 0 * half)), weight_of("sigma_map.mlp.0.weight"), weight_of("sigma_map.mlp.0.bias"))
    time = F.silu(F.linear(F.silu(time), weight_of("sigma_map.mlp.2.weight"), weight_of("sigma_map.mlp.2.bias")))

    def adapted(part: str, pieces: int) -> tuple[Tensor, ...]:
        weight, bias = (weight_of(f"{part}.adaLN_modulation.{kind}") for kind in ("weight", "bias"))
        return F.linear(time, weight, bias).chunk(pieces)

    for number in sorted({int(found[1]) for name in remaining if (found := re.match(r"blocks\.(\d+)\.", name))}):
        part = f"blocks.{number}"
        shift, scale, gate, feed_shift, feed_scale, feed_gate = adapted(part, 6)
        yield f"{part}.attention_norm.weight", weight_of(f"{part}.norm1.weight") * (1 + scale)
        yield f"{part}.attention_norm.bias", shift
        yield f"{part}.qkv.weight", weight_of(f"{part}.attn_qkv.weight")
        yield f"{part}.out.weight", weight_of(f"{part}.attn_out.weight") * gate[:, None]
        yield f"{part}.feed_norm.weight", weight_of(f"{part}.norm2.weight") * (1 + feed_scale)
        yield f"{part}.feed_norm.bias", feed_shift
        yield f"{part}.up.weight", weight_of(f"{part}.mlp.0.weight")
        yield f"{part}.up.bias", weight_of(f"{part}.mlp.0.bias")
        yield f"{part}.down.weight", weight_of(f"{part}.mlp.2.weight") * feed_gate[:, None]
        yield f"{part}.down.bias", weight_of(f"{part}.mlp.2.bias") * feed_gate
    shift, scale = adapted("output_layer", 2)
    yield "norm.weight", weight_of("output_layer.norm_final.weight") * (1 + scale)
    yield "norm.bias", shift
    yield "lm_head.weight", weight_of("output_layer.linear.weight")
    yield "lm_head.bias", weight_of("output_layer.linear.bias")
    yield "embedding.weight", weight_of("vocab_embed.embedding")
    remaining.pop("rotary_emb.inv_freq", None)  # follows from the width
    for name in remaining.values():
        yield name, weights[name]  # of another network, and refused as such
