"""The one network: a small pre-norm transformer, bidirectional (a denoiser) or causal (its autoregressive twin).

RMSNorm (arXiv:1910.07467), rotary positions (arXiv:2104.09864), SwiGLU (arXiv:2002.05202), QK-norm (arXiv:2010.04245)
and torch's scaled dot-product attention. Both uses share every parameter, so that a twin can start the other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModel, PreTrainedModel

from textdiff.diffusion import subs
from textdiff.errors import UserError
from textdiff.models.attention import Rotary, attend, compact, denoising_visibility, rotate
from textdiff.models.cache import EvidenceCache, KeyValueCache
from textdiff.models.config import TransformerConfig

RIGHT_NEIGHBOURS = 4
"""How many tokens to its right a masked slot reads directly, beside what attention brings."""

NEIGHBOURS = (-1, *range(1, RIGHT_NEIGHBOURS + 1))


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
        cache: KeyValueCache | EvidenceCache | None,
        asked: Tensor | None = None,
    ) -> Tensor:
        """Residual stream `[batch, length, width]` -> the same shape, or `[batch, asked, width]`.

        `asked [batch, asked]` are the columns that an answer is wanted for; what the others say is heard all the same.
        """
        query, key, value = self.heard(x, rotary)
        if asked is not None:
            x = x.take_along_dim(asked[..., None], dim=1)
            query = query.take_along_dim(asked[:, None, :, None], dim=2)
        mixed = attend(query, key, value, bias) if cache is None else cache.attend(self.layer, query, key, value, bias)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        gate, up = self.gate_up(self.feed_norm(x)).chunk(2, dim=-1)
        return x + self.dropout(self.down(F.silu(gate) * up))

    def heard(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values `[batch, heads, length, head_dim]` of a residual stream."""
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        gain = torch.stack((self.query_norm.weight, self.key_norm.weight))[:, None, None, None]
        both = F.rms_norm(qkv[:2], qkv.shape[-1:], eps=1e-6) * gain  # one call for two norms: most of it is the call
        query, key = rotate(both, *rotary).to(qkv.dtype)
        return query, key, qkv[2]


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
    adaptable = ("qkv", "out", "gate_up", "down", "head")
    """Linear layers that a low-rank adapter is for."""

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
        self._recomputes = False
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
        cache: KeyValueCache | EvidenceCache | None = None,
    ) -> Tensor:
        """Final hidden states `[batch, length, width]`.

        Args:
            tokens: ids `[batch, length]`.
            visible: bool `[batch, length, seen]`, who (row) may look at whom (column); by default everyone at everyone,
                or in a causal model at what came before.
            positions: rotary positions `[batch, length]`; by default counted from what the cache holds.
            cache: keys and values of earlier tokens, of a causal model only: extended in place, or held once for many
                rows; then `visible`, among `tokens` alone, and `positions` are given.
        """
        assert cache is None or self.config.causal, "a denoiser's evidence is read by read_evidence"
        if positions is None:
            assert not isinstance(cache, EvidenceCache)
            start = len(cache) if cache is not None else 0
            positions = torch.arange(start, start + tokens.shape[1], device=tokens.device).expand_as(tokens)
        x = self.embedding(tokens)
        if self.config.causal:
            if visible is None and tokens.shape[1] > 1:
                assert not isinstance(cache, EvidenceCache)
                seen = tokens.shape[1] + (len(cache) if cache is not None else 0)
                visible = torch.ones(1, seen, seen, dtype=torch.bool, device=x.device).tril()[:, -tokens.shape[1] :]
        else:
            masked = tokens == self.config.mask_token_id
            near = torch.stack([self._neighbour(x, visible, distance)[masked] for distance in NEIGHBOURS], dim=1)
            x, positions = self._asking(x, masked, near), positions - masked.long()
        rotary, bias = self.rotary(positions), None if visible is None else self._bias(visible, x)
        for block in self.blocks:
            if self._recomputes and cache is None and torch.is_grad_enabled():
                x = checkpoint(block, x, rotary, bias, None, use_reentrant=False)
            else:
                x = block(x, rotary, bias, cache)
        return self.norm(x)

    def _asking(self, x: Tensor, masked: Tensor, near: Tensor) -> Tensor:
        """Inputs `[batch, length, width]` with what masked slots hear from their `NEIGHBOURS`, `[masked, 5, width]`."""
        told = x[masked] + near[:, 0] + self.following(near[:, 1:].flatten(1))
        return x.masked_scatter(masked[..., None], told.to(x.dtype))

    def encode_evidence(self, canvas: Tensor, observed: Tensor) -> EvidenceCache | None:
        """Read what is observed, once for all rows that have the same evidence and whatever stands in their gaps.

        Args:
            canvas, observed: see `log_probs`.

        Returns:
            For `log_probs`; None where evidence looks at gaps, too, or there is none.
        """
        canvas, observed, _ = self._used(canvas, observed)
        shown = observed & self._real(canvas)
        if self.config.causal or self.config.attention != "isolated" or not shown.any():
            return None
        evidence, text = canvas.masked_fill(~shown, -1).unique(dim=0, return_inverse=True)
        at, inside = compact(evidence >= 0)
        x, store = self.embedding(evidence.gather(1, at).clamp(min=0)), KeyValueCache(at.shape[1])
        rotary, bias = self.rotary(at), None if inside.all() else self._bias(inside[:, None], x)
        finite = None if bias is None else bias.clamp(min=torch.finfo(bias.dtype).min)  # no evidence is no NaN
        *first, last = self.blocks
        assert isinstance(last, Block)
        for block in first:
            x = block.forward(x, rotary, finite, store)  # not compiled: the sizes change all the time
        store.extend(last.layer, *last.heard(x, rotary)[1:])
        return EvidenceCache.of(store.layers, bias, text)

    def _gap_states(self, canvas: Tensor, observed: Tensor, where: Tensor, evidence: EvidenceCache) -> Tensor:
        """Final hidden states `[where.sum(), width]` of positions outside the evidence, which has been read."""
        shown = self._real(canvas)
        at, inside = compact(~observed & shown)
        around = at[..., None] + torch.tensor(NEIGHBOURS, device=at.device)
        tokens, x = canvas.gather(1, at), self.embedding(canvas.gather(1, at))
        masked = (tokens == self.config.mask_token_id) & inside
        row, column = masked.nonzero()[:, :1], around[masked]
        inner = column.clamp(0, canvas.shape[1] - 1)
        near = self.embedding(canvas[row, inner]) * ((inner == column) & shown[row, inner])[..., None]
        x = self._asking(x, masked, near)
        rotary = self.rotary(at - masked.long())
        bias = None if inside.all() else self._bias(inside[:, None], x)
        *first, last = self.blocks
        assert isinstance(last, Block)
        for block in first:
            x = block.forward(x, rotary, bias, evidence)
        asked, real = compact(where.gather(1, at) & inside)
        return self.norm(last.forward(x, rotary, bias, evidence, asked)[real])

    def _used(
        self, canvas: Tensor, observed: Tensor, where: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The same canvases without null, which is no text: what stands behind it moves up, and padding follows."""
        null = self.config.null_token_id
        if null is None or not (unused := canvas == null).any():
            return canvas, observed, where
        assert self.config.pad_token_id is not None, "rows of different lengths take padding"
        at, inside = compact(~unused)
        where = None if where is None else where.gather(1, at) & inside
        return (
            canvas.gather(1, at).masked_fill(~inside, self.config.pad_token_id),
            observed.gather(1, at) | ~inside,
            where,
        )

    def _real(self, tokens: Tensor) -> Tensor:
        """Which tokens are no padding."""
        pad = self.config.pad_token_id
        return torch.ones_like(tokens, dtype=torch.bool) if pad is None else tokens != pad

    def checkpoint_activations(self) -> None:
        """Keep only what enters each block for the backward pass, which computes the rest again (arXiv:1604.06174).

        Less memory for more time; gradients stay the same, dropout included.
        """
        self._recomputes = True

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

    def log_probs(
        self,
        canvas: Tensor,
        observed: Tensor,
        where: Tensor | None = None,
        null: bool = False,
        evidence: EvidenceCache | None = None,
    ) -> Tensor:
        """Normalised log-probabilities of the clean tokens, float32, no mass on mask, pad, bos or eos.

        Null is not read and takes no position: a text with unused slots is the text without them.

        Args:
            canvas: ids `[batch, length]`, mask at unknown positions, null in slots that are known to be unused, pad to
                the right of shorter rows.
            observed: bool `[batch, length]`, evidence and padding.
            where: bool `[batch, length]`, positions to answer for; null answers null.
            null: whether a position may be an unused slot, too; no mass on null otherwise.
            evidence: what `read_evidence` has read of these rows; only the gaps are computed then.

        Returns:
            `[batch, length, vocab]`, or `[where.sum(), vocab]`, row-major.

        Raises:
            ValueError: the network is causal.
        """
        if self.config.causal:
            raise ValueError("a causal network is no denoiser: score and sample with an AutoregressivePrior")
        asked, unused = torch.ones_like(observed) if where is None else where, canvas == self.config.null_token_id
        if (asked & unused).any():
            law, known = self.log_probs(canvas, observed, asked & ~unused, null, evidence), unused[asked]
            answer = law.new_full((len(known), law.shape[1]), -torch.inf)
            answer[known, self.config.null_token_id] = 0.0
            answer[~known] = law
            return answer if where is not None else answer.view(*canvas.shape, -1)
        canvas, observed, where = self._used(canvas, observed, where)
        if evidence is not None and where is not None:
            logits = self.head(self._gap_states(canvas, observed, where, evidence))
        else:
            segments = self._real(canvas).long()
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
