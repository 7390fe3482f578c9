"""The one network: a small pre-norm transformer, bidirectional (a denoiser) or causal (the autoregressive baseline).

RMSNorm (arXiv:1910.07467), rotary positions (arXiv:2104.09864), SwiGLU (arXiv:2002.05202), QK-norm (arXiv:2010.04245)
and torch's scaled dot-product attention. All parameters of a causal network are parameters of a denoiser, too, so that
a denoiser can start from the weights of one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput, MaskedLMOutput

from textdiff.diffusion import subs
from textdiff.errors import UserError
from textdiff.models.attention import Rotary, attention_bias, causal_visibility, compact, denoising_visibility
from textdiff.models.block import Block
from textdiff.models.cache import EvidenceCache, KeyValueCache
from textdiff.models.config import TransformerConfig
from textdiff.models.evidence_encoder import EvidenceEncoder
from textdiff.models.neighbours import RIGHT_NEIGHBOURS, neighbour_embeddings, with_neighbours
from textdiff.models.order_causal import OrderCausalRows
from textdiff.models.revealed_cache import RevealedCache


class Transformer(PreTrainedModel):
    """Token ids -> logits; as a denoiser, canvas -> log-probabilities of the clean tokens (`Denoiser`).

    Output i of a causal network predicts token i + 1, output i of a denoiser token i. The input of a masked slot holds
    the embeddings of its neighbours, see `textdiff.models.neighbours`.

    `forward` has the interface of Hugging Face, and importing `textdiff.models` makes the network known to `AutoConfig`
    and `AutoModel`. The library itself calls `log_probs`, `logits` and `hidden`, which take any attention mask.

    Raises:
        UserError: a denoiser without a mask token.
    """

    config_class = TransformerConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
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
            # An order-causal network has a bias here: it tells query rows from content rows.
            self.following = nn.Linear(RIGHT_NEIGHBOURS * config.hidden_size, config.hidden_size, bias=self.ordered)
        self._recomputes = False
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
            if not self.config.causal and module is self.following:
                nn.init.zeros_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        elif isinstance(module, nn.RMSNorm):
            nn.init.ones_(module.weight)

    @property
    def context(self) -> int:
        """Tokens of the longest text that it takes."""
        return self.config.max_position_embeddings

    @property
    def ordered(self) -> bool:
        """Whether it is an order-causal denoiser, which takes reveal times: see `textdiff.models.order_causal`."""
        return not self.config.causal and self.config.attention == "order-causal"

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> CausalLMOutput | MaskedLMOutput:
        """Logits of every position, `[batch, length, vocab]`, in an output of transformers.

        Args:
            input_ids: `[batch, length]`; a denoiser fills in the positions that hold the mask.
            attention_mask: `[batch, length]`, 0 at padding; None: there is none.
            position_ids: `[batch, length]`, by default from 0 on.
            observed: bool `[batch, length]`, of a denoiser: evidence, to which isolated attention is confined; by
                default all that is not masked.
        """
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask.ne(0).long()
        if self.config.causal:
            visible = None if attention_mask is None else causal_visibility(real)
            return CausalLMOutput(logits=self.logits(input_ids, visible, position_ids))
        evidence = input_ids != self.config.mask_token_id if observed is None else observed
        if self.ordered:
            states = self._gap_states(input_ids, evidence | (real == 0), real.bool(), torch.ones_like(evidence))
            return MaskedLMOutput(logits=self.head(states).view(*input_ids.shape, -1))
        visible = denoising_visibility(real, evidence | (real == 0), self.config.attention)
        return MaskedLMOutput(logits=self.logits(input_ids, visible, position_ids))

    def logits(
        self,
        tokens: Tensor,
        visible: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KeyValueCache | None = None,
        where: Tensor | None = None,
    ) -> Tensor:
        """Logits `[batch, length, vocab]`, or `[where.sum(), vocab]` of the positions of a bool `where` alone.

        The other arguments are those of `hidden`.
        """
        states = self.hidden(tokens, visible, positions, cache)
        return self.head(states if where is None else states[where])

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
            visible: bool `[batch, length, seen]`, attention mask: whether a position (row) attends to another (column).
                By default every position attends to all, or in a causal network to itself and the earlier ones.
            positions: rotary positions `[batch, length]`; by default counted from what the cache holds.
            cache: keys and values of earlier tokens, of a causal network only: extended in place, or shared by many
                rows; then `visible`, among `tokens` alone, and `positions` are given.
        """
        assert cache is None or self.config.causal, "the evidence of a denoiser is encoded by encode_evidence"
        assert not self.ordered, "an order-causal network has no states but those of ordered_states and log_probs"
        if positions is None:
            assert not isinstance(cache, EvidenceCache)
            start = len(cache) if cache is not None else 0
            positions = torch.arange(start, start + tokens.shape[1], device=tokens.device).expand_as(tokens)
        x, causal = self.embedding(tokens), False
        if self.config.causal:
            if visible is None and tokens.shape[1] > 1:
                assert not isinstance(cache, EvidenceCache)
                causal = cache is None  # torch needs no mask then, and skips what it would hide
                visible = None if cache is None else _later_rows(tokens.shape[1], len(cache), x.device)
        else:
            masked = tokens == self.config.mask_token_id
            x = with_neighbours(x, masked, neighbour_embeddings(x, visible, masked), self.following)
            positions = positions - masked.long()
        rotary, bias = self.rotary(positions), None if visible is None else attention_bias(visible, x)
        for block in self.blocks:
            if self._recomputes and cache is None and torch.is_grad_enabled():
                x = checkpoint(block, x, rotary, bias, None, None, causal, use_reentrant=False)
            else:
                x = block(x, rotary, bias, cache, None, causal)
        return self.norm(x)

    def log_probs(
        self,
        canvas: Tensor,
        observed: Tensor,
        where: Tensor | None = None,
        null: bool = False,
        evidence: EvidenceCache | RevealedCache | None = None,
        times: Tensor | None = None,
    ) -> Tensor:
        """Normalised log-probabilities of the clean tokens, float32, no mass on mask, pad, bos or eos.

        Null is left out and takes no position: the answer for a text with unused slots is that for the text without.

        Args:
            canvas: ids `[batch, length]`, mask at unknown positions, null in slots that are known to be unused, pad to
                the right of shorter rows.
            observed: bool `[batch, length]`, evidence and padding.
            where: bool `[batch, length]`, positions to answer for, all if None; the answer at null is null.
            null: whether a position may be an unused slot, too; no mass on null otherwise.
            evidence: of these rows, from `encode_evidence`; only the gaps are computed then, and by an order-causal
                network only what was revealed since the last call, which is added to it.
            times: reveal times `[batch, length]`, to which an order-causal network answers: at each position given what
                has an earlier time than it, -1 being that of evidence. Without them known tokens of gaps count as
                revealed at once, and before all that is asked about. Other networks take no notice.

        Returns:
            `[batch, length, vocab]`, or `[where.sum(), vocab]`, row-major.

        Raises:
            ValueError: the network is causal.
        """
        if self.config.causal:
            raise ValueError("a causal network is no denoiser: score and sample with an AutoregressivePrior")
        wanted, unused = torch.ones_like(observed) if where is None else where, canvas == self.config.null_token_id
        if (wanted & unused).any():
            log_probs = self.log_probs(canvas, observed, wanted & ~unused, null, evidence, times)
            known = unused[wanted]
            answer = log_probs.new_full((len(known), log_probs.shape[1]), -torch.inf)
            answer[known, self.config.null_token_id] = 0.0
            answer[~known] = log_probs
            return answer if where is not None else answer.view(*canvas.shape, -1)
        canvas, observed, where, times = self._without_null(canvas, observed, where, times)
        if self.ordered:
            assert not isinstance(evidence, EvidenceCache)
            asked = torch.ones_like(observed) if where is None else where
            logits = self.head(self._gap_states(canvas, observed, self._real(canvas), asked, times, evidence))
            logits = logits if where is not None else logits.view(*canvas.shape, -1)
        elif evidence is not None and where is not None:
            assert isinstance(evidence, EvidenceCache)
            logits = self.head(self._encoder().gap_states(canvas, observed, self._real(canvas), where, evidence))
        else:
            segments = self._real(canvas).long()
            visible = denoising_visibility(segments, observed, self.config.attention)
            logits = self.logits(canvas, visible, where=where)
        return subs(logits, self.forbidden_mask(logits.device, null))

    def ordered_states(
        self, tokens: Tensor, times: Tensor, content: Tensor, where: Tensor, segments: Tensor, positions: Tensor
    ) -> Tensor:
        """Final hidden states of an order-causal network, of all that is asked about in several documents: one pass.

        Args:
            tokens: the clean ids `[batch, length]`.
            times: reveal times `[batch, length]`, -1 for evidence.
            content: bool `[batch, length]`, tokens that others may see after their time.
            where: bool `[batch, length]`, positions that are asked about, given what has an earlier time.
            segments: document numbers `[batch, length]`; documents do not see each other.
            positions: rotary positions `[batch, length]`.

        Returns:
            `[where.sum(), width]`, row-major.
        """
        rows = self._order_causal_rows()
        return rows.document_states(tokens, times, content, where, segments, positions, self._recomputes)

    def encode_evidence(self, canvas: Tensor, observed: Tensor) -> EvidenceCache | RevealedCache | None:
        """Compute what depends on the evidence alone, once for all rows that have the same and for all steps.

        Args:
            canvas, observed: see `log_probs`.

        Returns:
            For `log_probs`; None where evidence attends to gaps, too, or there is none.
        """
        canvas, observed, _, _ = self._without_null(canvas, observed)
        if self.ordered:
            return self._order_causal_rows().encode(canvas, observed, self._real(canvas))
        shown = observed & self._real(canvas)
        if self.config.causal or self.config.attention != "isolated" or not shown.any():
            return None
        return self._encoder().encode(canvas, shown)

    def forbidden_mask(self, device: torch.device, null: bool = True) -> Tensor:
        """Bool `[vocab]`: tokens that are never predicted; `null` is among them if it is not allowed."""
        never = [*self.config.forbidden, *([] if null else [self.config.null_token_id])]
        mask = torch.zeros(self.config.vocab_size, dtype=torch.bool, device=device)
        mask[[token for token in never if token is not None]] = True
        return mask

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
            assert isinstance(block, Block)
            if self.ordered:  # attention differs from batch to batch, what is before and after it does not
                for part in ("project", "finish"):
                    setattr(block, part, torch.compile(getattr(block, part), options={"fallback_random": True}))
            else:
                block.compile(options={"fallback_random": True})

    def _encoder(self) -> EvidenceEncoder:
        assert self.config.mask_token_id is not None
        return EvidenceEncoder(
            self.embedding, self.blocks, self.norm, self.rotary, self.following, self.config.mask_token_id
        )

    def _order_causal_rows(self) -> OrderCausalRows:
        assert self.config.mask_token_id is not None
        return OrderCausalRows(
            self.embedding, self.blocks, self.norm, self.rotary, self.following, self.config.mask_token_id
        )

    def _gap_states(
        self,
        canvas: Tensor,
        observed: Tensor,
        real: Tensor,
        where: Tensor,
        times: Tensor | None = None,
        cache: RevealedCache | None = None,
    ) -> Tensor:
        """Final hidden states `[where.sum(), width]` of an order-causal network."""
        rows = self._order_causal_rows()
        if cache is None:
            cache = rows.encode(canvas, observed, real)
        elif torch.is_grad_enabled():  # a backward pass that computes this step again finds the cache as it was
            cache = cache.select(torch.arange(len(canvas), device=canvas.device))
        return rows.gap_states(canvas, observed, real, where, times, cache)

    def _without_null(
        self, canvas: Tensor, observed: Tensor, where: Tensor | None = None, times: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """The same canvases without null, which is no text: later tokens move up, and padding follows."""
        null = self.config.null_token_id
        if null is None or not (unused := canvas == null).any():
            return canvas, observed, where, times
        assert self.config.pad_token_id is not None, "rows of different lengths take padding"
        at, inside = compact(~unused)
        where = None if where is None else where.gather(1, at) & inside
        return (
            canvas.gather(1, at).masked_fill(~inside, self.config.pad_token_id),
            observed.gather(1, at) | ~inside,
            where,
            None if times is None else times.gather(1, at),
        )

    def _real(self, tokens: Tensor) -> Tensor:
        """Which tokens are no padding."""
        pad = self.config.pad_token_id
        return torch.ones_like(tokens, dtype=torch.bool) if pad is None else tokens != pad


def _later_rows(length: int, before: int, device: torch.device) -> Tensor:
    """Causal attention mask of `length` tokens after `before` cached ones, bool `[1, length, before + length]`."""
    seen = before + length
    return torch.ones(1, seen, seen, dtype=torch.bool, device=device).tril()[:, before:]


AutoConfig.register(TransformerConfig.model_type, TransformerConfig)
AutoModel.register(TransformerConfig, Transformer)
