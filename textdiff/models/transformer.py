"""The one network: a small pre-norm transformer, bidirectional (a denoiser) or causal (its autoregressive twin).

RMSNorm (arXiv:1910.07467), rotary positions (arXiv:2104.09864), SwiGLU (arXiv:2002.05202), QK-norm (arXiv:2010.04245)
and torch's scaled dot-product attention. Both uses share every parameter, so that a twin can start the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from textdiff.diffusion import subs
from textdiff.errors import UserError

Attention = Literal["isolated", "full"]

RIGHT_NEIGHBOURS = 4
"""How many tokens to its right a masked slot reads directly, beside what attention brings."""

SHORT = 256
"""Rows with fewer tokens are short, see `attend`."""

_SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings",
)  # fmt: skip
_SPECIAL = ("pad_token_id", "bos_token_id", "eos_token_id", "mask_token_id", "null_token_id")
_LOADING = ("attn_implementation", "experts_implementation")  # what transformers hands to every config that it reads


class TransformerConfig(PreTrainedConfig):
    """Shape and special tokens of a `Transformer`.

    Args:
        vocab_size: number of token ids, special tokens included.
        hidden_size: width of the residual stream; a multiple of `2 * num_attention_heads`.
        num_hidden_layers: number of blocks.
        num_attention_heads: heads per block.
        intermediate_size: width of the SwiGLU; by default 8/3 of `hidden_size`, rounded up to a multiple of 16.
        max_position_embeddings: longest text, in tokens.
        causal: True for the autoregressive twin (output i predicts token i + 1), False for a denoiser (output i
            predicts token i).
        attention: who looks at whom in a denoiser. "isolated": observed tokens look only at observed tokens, gap tokens
            at everything, so the evidence's keys and values do not depend on the gap. "full": everyone at everyone.
        fill_in_middle: a causal network was trained to fill gaps at the end of the text, `textdiff.text.middle`.
        dropout: on the output of each attention and feed-forward branch, in training.
        rope_theta: base of the rotary wavelengths.
        tie_word_embeddings: share the matrix of input embeddings and output head.
        pad_token_id, bos_token_id, eos_token_id, mask_token_id, null_token_id: ids of the special tokens; a denoiser
            needs the mask.

    Raises:
        UserError: sizes that make no network, ids outside the vocabulary, or an argument that there is not.
    """

    model_type = "textdiff"

    def __init__(
        self,
        vocab_size: int = 2048,
        hidden_size: int = 256,
        num_hidden_layers: int = 8,
        num_attention_heads: int = 4,
        intermediate_size: int | None = None,
        max_position_embeddings: int = 512,
        causal: bool = False,
        attention: Attention = "isolated",
        fill_in_middle: bool = False,
        dropout: float = 0.0,
        rope_theta: float = 10_000.0,
        tie_word_embeddings: bool = True,
        pad_token_id: int | None = None,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        mask_token_id: int | None = None,
        null_token_id: int | None = None,
        **kwargs: Any,
    ) -> None:
        base = PreTrainedConfig()
        if unknown := [name for name in kwargs if name not in _LOADING and not hasattr(base, name)]:
            raise UserError(f"a textdiff model has no setting {unknown[0]!r}: see textdiff.TransformerConfig")
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = -(-hidden_size * 8 // 3 // 16) * 16 if intermediate_size is None else intermediate_size
        self.max_position_embeddings = max_position_embeddings
        self.causal = causal
        self.attention = attention
        self.fill_in_middle = fill_in_middle
        self.dropout = dropout
        self.rope_theta = rope_theta
        super().__init__(**kwargs)
        self.tie_word_embeddings = tie_word_embeddings
        self.pad_token_id = pad_token_id
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.mask_token_id = mask_token_id
        self.null_token_id = null_token_id
        self._check()

    def _check(self) -> None:
        for name in _SIZES:
            if not isinstance(size := getattr(self, name), int) or size < 1:
                raise UserError(f"{name} is {size!r}, expected a whole number, 1 or more")
        if self.hidden_size % (2 * self.num_attention_heads):
            raise UserError(
                f"hidden_size {self.hidden_size} is not a multiple of 2 x num_attention_heads = "
                f"{2 * self.num_attention_heads}: rotary positions turn pairs of channels in each head"
            )
        if self.attention not in get_args(Attention):
            raise UserError(f"attention is {self.attention!r}, expected one of {', '.join(get_args(Attention))}")
        if self.fill_in_middle and not self.causal:
            raise UserError("fill_in_middle is for causal networks: a denoiser sees both sides of a gap as it is")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout is {self.dropout}, expected in [0, 1)")
        if not self.rope_theta > 0:
            raise UserError(f"rope_theta is {self.rope_theta}, expected above 0")
        for name in _SPECIAL:
            if (token := getattr(self, name)) is not None and not 0 <= token < self.vocab_size:
                raise UserError(f"{name} is {token}, outside a vocabulary of {self.vocab_size} tokens")

    @property
    def forbidden(self) -> list[int]:
        """Ids that are never predicted; but the twin may end a text, and the denoiser may leave a slot unused."""
        never = [self.pad_token_id, self.mask_token_id, self.bos_token_id]
        never.append(self.null_token_id if self.causal else self.eos_token_id)
        return [token for token in never if token is not None]


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
        self, x: Tensor, rotary: tuple[Tensor, Tensor], bias: Tensor | None, cache: KeyValueCache | None
    ) -> Tensor:
        """Residual stream `[batch, length, width]` -> the same shape."""
        qkv = rearrange(self.qkv(self.attention_norm(x)), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        query, key, value = rotate(self.query_norm(qkv[0]), *rotary), rotate(self.key_norm(qkv[1]), *rotary), qkv[2]
        if cache is not None:
            key, value = cache.extend(self.layer, key, value)
        query, key = query.to(value.dtype), key.to(value.dtype)
        mixed = attend(query, key, value, bias)
        x = x + self.dropout(self.out(rearrange(mixed, "b h l d -> b l (h d)")))
        gate, up = self.gate_up(self.feed_norm(x)).chunk(2, dim=-1)
        return x + self.dropout(self.down(F.silu(gate) * up))


class Transformer(PreTrainedModel):
    """Token ids -> logits; as a denoiser, canvas -> log-probabilities of the clean tokens (`Denoiser`).

    A masked slot *asks from where its left neighbour stands*: its input is the mask embedding plus the left neighbour's
    token embedding, at the left neighbour's rotary position. So a slot right after known text asks the question that
    the causal twin answers there, and a twin's weights are a working start, while output i still speaks of token i. The
    two differ only in the mask embedding, in that the slot sees itself too, and in that evidence looks both ways. What
    a twin cannot bring along is a sense of what follows: so a masked slot is also given its next `RIGHT_NEIGHBOURS`
    tokens, through a matrix that starts at zero.

    Importing `textdiff.models` makes it known to `AutoConfig` and `AutoModel`.

    Raises:
        UserError: a denoiser without a mask token.
    """

    config_class = TransformerConfig
    base_model_prefix = ""
    main_input_name = "tokens"
    _tied_weights_keys = {"head.weight": "embedding.weight"}  # noqa: RUF012  (transformers reads this class attribute)
    _supports_sdpa = True
    _no_split_modules = ["Block"]  # noqa: RUF012

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        if not config.causal and config.mask_token_id is None:
            raise UserError("mask_token_id is None, but a denoiser reads masks: give the id of the mask token")
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=1e-6)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.rotary = Rotary(config.hidden_size // config.num_attention_heads, config.rope_theta)
        if not config.causal:
            self.following = nn.Linear(RIGHT_NEIGHBOURS * config.hidden_size, config.hidden_size, bias=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
            if not self.config.causal and module is self.following:
                nn.init.zeros_(module.weight)
        elif isinstance(module, nn.RMSNorm):
            nn.init.ones_(module.weight)

    @property
    def context(self) -> int:
        """The longest text that it reads, in tokens."""
        return self.config.max_position_embeddings

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def hidden(
        self,
        tokens: Tensor,
        visible: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Final hidden states `[batch, length, width]`.

        Args:
            tokens: ids `[batch, length]`.
            visible: bool `[batch, length, seen]`, who (row) may look at whom (column); by default everyone at everyone,
                or in a causal model at what came before.
            positions: rotary positions `[batch, length]`; by default counted from what the cache holds.
            cache: keys and values of earlier tokens, extended in place; of a causal model only.
        """
        assert cache is None or self.config.causal, "what a denoiser has seen depends on what is still to come"
        if positions is None:
            start = len(cache) if cache is not None else 0
            positions = torch.arange(start, start + tokens.shape[1], device=tokens.device).expand_as(tokens)
        x = self.embedding(tokens)
        if self.config.causal:
            if visible is None and tokens.shape[1] > 1:
                seen = tokens.shape[1] + (len(cache) if cache is not None else 0)
                visible = torch.ones(1, seen, seen, dtype=torch.bool, device=x.device).tril()[:, -tokens.shape[1] :]
        else:
            masked = tokens == self.config.mask_token_id
            left = self._neighbour(x, visible, -1)[masked]
            right = [self._neighbour(x, visible, distance)[masked] for distance in range(1, RIGHT_NEIGHBOURS + 1)]
            x = x.masked_scatter(
                masked[..., None], (x[masked] + left + self.following(torch.cat(right, dim=-1))).to(x.dtype)
            )
            positions = positions - masked.long()
        rotary, bias = self.rotary(positions), None if visible is None else self._bias(visible, x)
        for block in self.blocks:
            x = block(x, rotary, bias, cache)
        return self.norm(x)

    def compile_blocks(self) -> None:
        """Run each block through `torch.compile`: one compilation serves all; embedding and head stay as they are.

        Dropout draws from torch's generator, eagerly: compiled random numbers take three times as long on a CPU.
        """
        for block in self.blocks:
            block.compile(options={"fallback_random": True})

    @staticmethod
    def _neighbour(x: Tensor, visible: Tensor | None, offset: int) -> Tensor:
        """What stands `offset` places to the right of each position of `x [batch, length, width]`; 0 where unseen."""
        before, after = max(-offset, 0), max(offset, 0)
        moved = F.pad(x, (0, 0, before, after))[:, after : after + x.shape[1]]
        if visible is None:
            return moved
        seen = F.pad(visible.diagonal(offset=offset, dim1=1, dim2=2), (before, after))
        return moved * seen[:, : x.shape[1], None]

    @staticmethod
    def _bias(visible: Tensor, x: Tensor) -> Tensor:
        """Who sees whom as a sum on attention scores, in the type of the attention: made once, not in each block."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return torch.zeros((), dtype=dtype, device=x.device).masked_fill(~visible[:, None], -torch.inf)

    def forward(
        self,
        tokens: Tensor,
        visible: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KeyValueCache | None = None,
        where: Tensor | None = None,
    ) -> Tensor:
        """Logits `[batch, length, vocab]`, or `[where.sum(), vocab]` for the positions of a bool `where` alone."""
        states = self.hidden(tokens, visible, positions, cache)
        return self.head(states if where is None else states[where])

    def log_probs(self, canvas: Tensor, observed: Tensor, where: Tensor | None = None, null: bool = False) -> Tensor:
        """Normalised log-probabilities of the clean tokens, float32, no mass on mask, pad, bos or eos.

        Args:
            canvas: ids `[batch, length]`, mask at unknown positions, pad to the right of shorter rows.
            observed: bool `[batch, length]`, evidence and padding.
            where: bool `[batch, length]`, positions to answer for.
            null: whether a position may be an unused slot, too; no mass on null otherwise.

        Returns:
            `[batch, length, vocab]`, or `[where.sum(), vocab]`, row-major.

        Raises:
            ValueError: the network is causal.
        """
        if self.config.causal:
            raise ValueError("a causal network is no denoiser: score and sample with an AutoregressivePrior")
        pad = self.config.pad_token_id
        segments = torch.ones_like(canvas) if pad is None else (canvas != pad).long()
        visible = denoising_visibility(segments, observed, self.config.attention)
        logits = self.forward(canvas, visible, where=where)
        return subs(logits, self.forbidden_mask(logits.device, null))

    def forbidden_mask(self, device: torch.device, null: bool = True) -> Tensor:
        """Bool `[vocab]`: tokens that are never predicted; `null` is among them if it is not allowed."""
        never = [*self.config.forbidden, *([] if null else [self.config.null_token_id])]
        mask = torch.zeros(self.config.vocab_size, dtype=torch.bool, device=device)
        mask[[token for token in never if token is not None]] = True
        return mask


AutoConfig.register(TransformerConfig.model_type, TransformerConfig)
AutoModel.register(TransformerConfig, Transformer)
