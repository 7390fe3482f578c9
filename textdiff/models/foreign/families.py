"""Published architectures as backbones: how their settings and names of weights map, without running their code.

LLaDA (arXiv:2502.09992) is transformers' Llama under OLMo's names and Dream (arXiv:2508.15487) its Qwen2, both with
bidirectional attention; MDLM (arXiv:2406.07524) is a `DiT`; the BERT family and causal language models are those of
transformers.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, final

from torch import Tensor
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.activations import ACT2FN

from textdiff.errors import UserError, reason
from textdiff.files.fields import SHARE, WAVELENGTH, Field, check_fields, choice, is_number, number, whole
from textdiff.models.foreign.dit import DiTConfig, folded

Settings = Mapping[str, Any]
"""What a config.json holds."""

Published = Mapping[str, Tensor]
"""Tensors by the names of a published checkpoint."""

MASKED = ("bert", "roberta", "xlm-roberta", "modernbert")
CAUSAL = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
BACKBONES = (*MASKED, *CAUSAL, DiTConfig.model_type)
"""Every `model_type` that a backbone may have."""

_OLDER = (
    "rope_theta", "rope_scaling", "global_rope_theta", "local_rope_theta", "global_attn_every_n_layers",
    "tie_word_embeddings",
)  # fmt: skip
"""Older settings, which transformers understands although its configs hold others in their place today."""

_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
_OPTIONAL_SIZES = (
    "intermediate_size", "num_key_value_heads", "head_dim", "type_vocab_size", "sliding_window", "local_attention",
    "global_attn_every_n_layers",
)  # fmt: skip
_DROPOUTS = (
    "dropout", "hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "embedding_dropout",
    "mlp_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop",
)  # fmt: skip
_EPSILONS = ("layer_norm_eps", "rms_norm_eps", "layer_norm_epsilon", "norm_eps")
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function")


def _turns(value: Any) -> bool:
    """Whether a value may be the parameters of rotary positions: at the leaves, names and finite numbers."""
    if isinstance(value, Mapping):
        return all(WAVELENGTH.fits(part) if name == "rope_theta" else _turns(part) for name, part in value.items())
    if isinstance(value, list):
        return all(_turns(part) for part in value)
    return value is None or isinstance(value, str | bool) or is_number(value)


FIELDS = {
    **dict.fromkeys(_SIZES, whole()),
    **dict.fromkeys(_OPTIONAL_SIZES, whole().optional()),
    **dict.fromkeys(_DROPOUTS, SHARE),
    **dict.fromkeys(_EPSILONS, number(lambda value: 0 < value < 1, "between 0 and 1")),
    **dict.fromkeys(_ACTIVATIONS, choice(*ACT2FN)),
    **dict.fromkeys(("is_decoder", "add_cross_attention"), Field(lambda value: not value, "and only False is known")),
    "initializer_range": number(lambda value: value >= 0, "0 or more"),
    "rope_parameters": Field(_turns, f"expected finite numbers, and a rope_theta {WAVELENGTH.expected}"),
}
"""What each setting of a backbone may be, under the names that the configs of transformers have in common."""


def _named_mask(settings: Settings) -> Any:
    return settings.get("mask_token_id")


@final
@dataclass(frozen=True)
class Family:
    """How checkpoints of a kind are loaded.

    Args:
        backbone: settings of the checkpoint -> those of the backbone, its `model_type` among them.
        weights: published tensors -> names and values of the backbone's parameters.
        shifted: whether output i predicts token i + 1, as in a causal language model.
        causal: whether it was trained left to right, and has to be trained further before it can fill gaps.
        mask: settings -> id of the mask token; None: as the tokenizer says.
        tokenizer: name of the class of transformers that loads the tokenizer; None: as its files say.
        borrowed: on the Hub, the tokenizer of checkpoints that were published without one.
    """

    backbone: Callable[[Settings], dict[str, Any]]
    weights: Callable[[Published], Iterator[tuple[str, Tensor]]]
    shifted: bool = False
    causal: bool = False
    mask: Callable[[Settings], Any] = _named_mask
    tokenizer: str | None = None
    borrowed: str | None = None


def backbone_config(settings: Settings) -> PreTrainedConfig:
    """The config of a backbone, from the settings that shape it; those that would load or run code are left out.

    Raises:
        UserError: it is of no known kind, or describes no network.
    """
    kind, known = settings.get("model_type"), choice(*BACKBONES)
    if not isinstance(kind, str) or not known.fits(kind):
        raise UserError(f"the backbone is of type {reprlib.repr(kind)}, {known.expected}")
    made = DiTConfig if kind == DiTConfig.model_type else CONFIG_MAPPING[kind]
    shape = made().to_dict().keys() - PreTrainedConfig().to_dict().keys()
    try:
        config = made(**{name: settings[name] for name in sorted({*shape, *_OLDER}) if name in settings})
        found = {name: getattr(config, name) for name in FIELDS if hasattr(config, name)}
    except Exception as error:  # transformers raises whatever a wrong type leads to
        raise UserError(reason(error)) from error
    check_fields(found, FIELDS)
    return config


def _like(settings: Settings, kind: str, needed: Settings) -> dict[str, Any]:
    """Settings of an architecture that transformers has, under whatever `model_type`."""
    _need(settings, needed)
    found = backbone_config({**settings, "model_type": kind}).to_diff_dict() | {"model_type": kind}
    del found["transformers_version"]
    return found


def _need(settings: Settings, needed: Settings) -> None:
    """Refuse settings that the backbone has no equivalent of; those that are absent are as needed."""
    for name, value in needed.items():
        if (found := settings.get(name, value)) != value:
            raise UserError(f"{name} is {found!r}, and only {value!r} is known")


def _llada(settings: Settings) -> dict[str, Any]:
    _need(
        settings,
        {
            "block_type": "llama",
            "activation_type": "silu",
            "layer_norm_type": "rms",
            "rope": True,
            "alibi": False,
            "attention_layer_norm": False,
            "include_bias": False,
            "include_qkv_bias": False,
            "input_emb_norm": False,
            "scale_logits": False,
            "clip_qkv": None,
        },
    )
    width, heads = settings["d_model"], settings["n_heads"]
    return {
        "model_type": "llama",
        "vocab_size": settings.get("embedding_size") or settings["vocab_size"],
        "hidden_size": width,
        "num_hidden_layers": settings["n_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": settings.get("n_kv_heads") or (1 if settings.get("multi_query_attention") else heads),
        "intermediate_size": settings.get("mlp_hidden_size") or settings["mlp_ratio"] * width,
        "max_position_embeddings": settings["max_sequence_length"],
        "rms_norm_eps": settings.get("rms_norm_eps", 1e-5),
        "rope_theta": settings.get("rope_theta", 10_000.0),
        "tie_word_embeddings": settings.get("weight_tying", False),
    }


def _mdlm(settings: Settings) -> dict[str, Any]:
    _need(settings, {"time_conditioning": False})
    theirs = {
        "vocab_size": "vocab_size",
        "hidden_size": "hidden_dim",
        "num_hidden_layers": "n_blocks",
        "num_attention_heads": "n_heads",
        "max_position_embeddings": "model_length",
    }
    return {"model_type": DiTConfig.model_type} | {name: settings[other] for name, other in theirs.items()}


Rule = tuple[str, str | None]
"""A pattern of names and its replacement; None: such a tensor is left out."""


def _renamed(weights: Published, rules: tuple[Rule, ...]) -> Iterator[tuple[str, Tensor]]:
    """Each tensor, renamed by all rules that match, in turn."""
    for name in weights:
        new: str | None = name
        for pattern, replacement in rules:
            if new is not None and re.search(pattern, new):
                new = None if replacement is None else re.sub(pattern, replacement, new)
        if new is not None:
            yield new, weights[name]


_CONSTANT: Rule = (r"(^|\.)(rotary_emb\.inv_freq|position_ids|h\.\d+\.attn\.(masked_)?bias)$", None)
"""Constants that older versions of transformers saved."""

_OLMO: tuple[Rule, ...] = (
    (r"^model\.transformer\.ff_out\.", "lm_head."),
    (r"^model\.transformer\.wte\.", "model.embed_tokens."),
    (r"^model\.transformer\.ln_f\.", "model.norm."),
    (r"^model\.transformer\.blocks\.", "model.layers."),
    (r"\.attn_norm\.", ".input_layernorm."),
    (r"\.ff_norm\.", ".post_attention_layernorm."),
    (r"\.(q_proj|k_proj|v_proj)\.", r".self_attn.\1."),
    (r"\.attn_out\.", ".self_attn.o_proj."),
    (r"\.ff_proj\.", ".mlp.gate_proj."),
    (r"\.up_proj\.", ".mlp.up_proj."),
    (r"\.ff_out\.", ".mlp.down_proj."),
)

_BERT: tuple[Rule, ...] = (
    (r"(^|\.)pooler\.|^cls\.seq_relationship\.", None),  # for other tasks
    (r"LayerNorm\.gamma$", "LayerNorm.weight"),
    (r"LayerNorm\.beta$", "LayerNorm.bias"),
)

_BARE: Rule = (r"^(wte|wpe|h|ln_f)\.", r"transformer.\1.")
"""GPT-2 was published without its head, and so without the prefix of its body."""


def _of(kind: str, *rules: Rule, shifted: bool = False, causal: bool = False, **needed: Any) -> Family:
    """A family that transformers has, whose configs are accepted if these settings are as needed."""
    return Family(
        partial(_like, kind=kind, needed=needed),
        partial(_renamed, rules=(_CONSTANT, *rules)),
        shifted=shifted,
        causal=causal,
        tokenizer="Qwen2Tokenizer" if kind == "qwen2" and not causal else None,
    )


_encoder = partial(_of, is_decoder=False, add_cross_attention=False, position_embedding_type="absolute")
_left_to_right = partial(_of, shifted=True, causal=True)

FAMILIES: dict[str, Family] = {
    "llada": Family(_llada, partial(_renamed, rules=(_CONSTANT, *_OLMO)), tokenizer="PreTrainedTokenizerFast"),
    "Dream": _of("qwen2", shifted=True, use_sliding_window=False),
    "mdlm": Family(
        _mdlm,
        folded,
        mask=lambda settings: settings["vocab_size"] - 1,
        tokenizer="GPT2Tokenizer",
        borrowed="openai-community/gpt2",
    ),
    **{kind: _encoder(kind, *_BERT) for kind in ("bert", "roberta", "xlm-roberta")},
    "modernbert": _of("modernbert"),
    "gpt2": _left_to_right("gpt2", _BARE, add_cross_attention=False),
    **{kind: _left_to_right(kind) for kind in ("llama", "mistral", "qwen2", "qwen3")},
}
"""Families by the `model_type` of a checkpoint's config."""
