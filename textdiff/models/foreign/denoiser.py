"""A denoiser around another architecture: transformers' Llama, Qwen2, GPT-2, BERT and others, or that of MDLM."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import MaskedLMOutput
from transformers.pytorch_utils import Conv1D

from textdiff.diffusion import subs
from textdiff.errors import UserError
from textdiff.files.fields import FLAG, Field, check_fields, token, whole
from textdiff.models.attention import denoising_visibility
from textdiff.models.config import SPECIAL_IDS, Attention
from textdiff.models.foreign.dit import DiT, DiTConfig
from textdiff.models.foreign.families import MASKED, backbone_config

HEADS = {"bert": ("cls",), "modernbert": ("head", "decoder")}
"""Modules of a backbone that turn hidden states into logits, one after the other; of any other one ("lm_head",)."""


_DERIVED = ("rows", "hidden_size", "offset", "max_position_embeddings")
"""Settings of a `ForeignConfig` that follow from those of its backbone."""
_SETTINGS = Field(lambda value: isinstance(value, dict), "expected the settings of a network")


class ForeignConfig(PreTrainedConfig):
    """Settings of a `ForeignDenoiser`: the backbone, and what a denoiser has to know about it.

    Args:
        backbone: the backbone's own settings, its `model_type` among them.
        vocab_size: token ids of the tokenizer; the backbone may know fewer or more.
        shifted: whether the backbone's output i predicts token i + 1, as that of a causal language model does.
        pad_token_id, bos_token_id, eos_token_id, mask_token_id, null_token_id: ids of the special tokens. The mask, and
            null where there is one, are tokens of the backbone; the others need not be.

    Raises:
        UserError: a backbone of no known kind or shape, or ids that it does not have.
    """

    model_type = "textdiff-foreign"
    causal, fill_in_middle = False, False
    attention: Attention = "full"

    def __init__(
        self,
        *,
        backbone: dict[str, Any] | None = None,
        vocab_size: int | None = None,
        shifted: bool = False,
        pad_token_id: int | None = None,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        mask_token_id: int | None = None,
        null_token_id: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.backbone = {"model_type": DiTConfig.model_type} if backbone is None else backbone
        check_fields({"backbone": self.backbone}, {"backbone": _SETTINGS})
        inner = backbone_config(self.backbone)
        self.rows, self.hidden_size = inner.vocab_size, inner.hidden_size
        self.vocab_size = self.rows if vocab_size is None else vocab_size
        self.shifted = shifted
        # RoBERTa counts positions from behind the id of its padding.
        self.offset = inner.pad_token_id + 1 if "roberta" in self.backbone["model_type"] else 0
        self.max_position_embeddings = inner.max_position_embeddings - self.offset
        check_fields(vars(self), {"vocab_size": whole(), "max_position_embeddings": whole(), "shifted": FLAG})
        derived = {name: vars(self)[name] for name in _DERIVED}
        for name in derived.keys() & kwargs.keys():
            if kwargs.pop(name) != derived[name]:
                raise UserError(f"{name} does not fit the backbone, expected {derived[name]!r}")
        super().__init__(**kwargs)
        self.tie_word_embeddings = inner.tie_word_embeddings
        self.pad_token_id = pad_token_id
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.mask_token_id = self.rows - 1 if mask_token_id is None else mask_token_id
        self.null_token_id = null_token_id
        for name in SPECIAL_IDS:
            most = self.rows if name in ("mask_token_id", "null_token_id") else self.vocab_size
            known = Field(token(most).fits, f"expected a token below {most}")
            check_fields({name: getattr(self, name)}, {name: known})

    @property
    def forbidden(self) -> list[int]:
        """Ids that are never predicted."""
        never = (self.pad_token_id, self.bos_token_id, self.eos_token_id, self.mask_token_id)
        return [token for token in never if token is not None]


class ForeignDenoiser(PreTrainedModel):
    """Canvas -> log-probabilities of the clean tokens (`Denoiser`), by a bidirectional backbone and its head.

    Every token attends to every other but padding, by a 4-D attention mask, so that a causal backbone is bidirectional,
    too. Hidden state i predicts token i, whether or not the backbone is shifted.

    `forward` has the interface of Hugging Face, and importing `textdiff.models` makes the network known to `AutoConfig`
    and `AutoModel`. The library itself calls `log_probs`, `logits` and `hidden`.
    """

    config_class = ForeignConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    config: ForeignConfig

    def __init__(self, config: ForeignConfig) -> None:
        super().__init__(config)
        inner = backbone_config(config.backbone)
        if isinstance(inner, DiTConfig):
            self.backbone: PreTrainedModel = DiT(inner)
        else:
            auto = AutoModelForMaskedLM if inner.model_type in MASKED else AutoModelForCausalLM
            self.backbone = auto.from_config(inner, attn_implementation="sdpa", trust_remote_code=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        self.backbone._init_weights(module)

    @property
    def context(self) -> int:
        """Tokens of the longest text that it takes."""
        return self.config.max_position_embeddings

    @property
    def adaptable(self) -> tuple[str, ...]:
        """Linear layers that a low-rank adapter is for: all of them."""
        return tuple(sorted({name.rpartition(".")[2] for name, part in self.named_modules() if _linear(part)}))

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.backbone.get_output_embeddings()

    def hidden(self, tokens: Tensor, visible: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Final hidden states `[batch, length, width]`, each of which the head turns into the logits of its own token.

        Args:
            tokens: ids `[batch, length]`.
            visible: bool `[batch, length, length]`, attention mask: whether a position (row) attends to another
                (column); by default every position to all.
            positions: `[batch, length]`, by default from 0 on.
        """
        length = tokens.shape[1]
        if visible is None:
            visible = torch.ones(1, length, length, dtype=torch.bool, device=tokens.device)
        if positions is None:
            positions = torch.arange(length, device=tokens.device).expand_as(tokens)
        found = self.backbone.base_model(
            input_ids=tokens.masked_fill(tokens >= self.config.rows, 0),  # padding that it has no row for
            attention_mask=self._mask(visible),
            position_ids=positions + self.config.offset,
            use_cache=False,
        )
        states = found.last_hidden_state
        if not self.config.shifted:
            return states
        # Before the first token of a text is another text, or padding: the state of the token itself has to do.
        after = pad(visible.diagonal(offset=-1, dim1=1, dim2=2), (1, 0))
        before = torch.arange(length, device=tokens.device) - after.long()
        return states.gather(1, before[..., None].expand(*states.shape))

    def _mask(self, visible: Tensor) -> Tensor | dict[str, Tensor]:
        """The attention mask in the backbone's own format: `[batch, 1, length, length]`, one for each kind of layer."""
        everywhere = visible[:, None]
        inner = self.backbone.config
        if inner.model_type != "modernbert":
            return everywhere
        place = torch.arange(visible.shape[1], device=visible.device)
        near = (place[:, None] - place).abs() <= inner.sliding_window
        return {"full_attention": everywhere, "sliding_attention": everywhere & near}

    def head(self, states: Tensor) -> Tensor:
        """Logits `[..., vocab]` of hidden states `[..., width]`; -inf for tokens that the backbone does not know."""
        for name in HEADS.get(self.backbone.config.model_type, ("lm_head",)):
            states = self.backbone.get_submodule(name)(states)
        logits = states[..., : self.config.vocab_size]
        return pad(logits, (0, self.config.vocab_size - logits.shape[-1]), value=-torch.inf)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> MaskedLMOutput:
        """Logits of every position, `[batch, length, vocab]`, in an output of transformers.

        Args:
            input_ids: `[batch, length]`.
            attention_mask: `[batch, length]`, 0 at padding; None: there is none.
            position_ids: `[batch, length]`, by default from 0 on.
        """
        visible = None
        if attention_mask is not None:
            real = attention_mask.ne(0)
            visible = denoising_visibility(real.long(), ~real, self.config.attention)
        return MaskedLMOutput(logits=self.logits(input_ids, visible, position_ids))

    def logits(
        self,
        tokens: Tensor,
        visible: Tensor | None = None,
        positions: Tensor | None = None,
        where: Tensor | None = None,
    ) -> Tensor:
        """Logits `[batch, length, vocab]` of each token, or `[where.sum(), vocab]` of those of a bool `where` alone.

        The other arguments are those of `hidden`.
        """
        states = self.hidden(tokens, visible, positions)
        return self.head(states if where is None else states[where])

    def log_probs(self, canvas: Tensor, observed: Tensor, where: Tensor | None = None, null: bool = False) -> Tensor:
        """Normalised log-probabilities of the clean tokens, float32, no mass on mask, pad, bos or eos.

        Args:
            canvas: ids `[batch, length]`, mask at unknown positions, pad left or right of shorter rows.
            observed: bool `[batch, length]`, evidence and padding.
            where: bool `[batch, length]`, positions to answer for, all if None.
            null: whether a position may be an unused slot, too; no mass on null otherwise.

        Returns:
            `[batch, length, vocab]`, or `[where.sum(), vocab]`, row-major.
        """
        real = canvas != (-1 if self.config.pad_token_id is None else self.config.pad_token_id)
        visible, positions = None, None
        if not real.all():
            visible = denoising_visibility(real.long(), observed, self.config.attention)
            positions = (real.cumsum(dim=1) - 1).clamp(min=0)
        logits = self.logits(canvas, visible, positions, where)
        return subs(logits, self.forbidden_mask(logits.device, null))

    def forbidden_mask(self, device: torch.device, null: bool = True) -> Tensor:
        """Bool `[vocab]`: tokens that are never predicted; `null` is among them if it is not allowed."""
        never = [*self.config.forbidden, *([] if null else [self.config.null_token_id])]
        mask = torch.arange(self.config.vocab_size, device=device) >= self.config.rows
        mask[[token for token in never if token is not None]] = True
        return mask

    def compile_blocks(self) -> None:
        """Run the backbone through `torch.compile`; the head stays as it is."""
        self.backbone.base_model.compile(options={"fallback_random": True})


def _linear(part: nn.Module) -> bool:
    return isinstance(part, nn.Linear | Conv1D)


AutoConfig.register(DiTConfig.model_type, DiTConfig)
AutoModel.register(DiTConfig, DiT)
AutoConfig.register(ForeignConfig.model_type, ForeignConfig)
AutoModel.register(ForeignConfig, ForeignDenoiser)
