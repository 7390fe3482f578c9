"""What a checkpoint of a run has beside its weights, whether it fits a network, and its export to a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.models import ForeignConfig, ForeignDenoiser, Transformer, TransformerConfig
from textdiff.pretrained.save import check_place, write_checkpoint
from textdiff.text import Vocabulary
from textdiff.training.checkpoint_files import read_checkpoint

SHAPE = (
    "causal",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "tie_word_embeddings",
    "backbone",
)
"""Settings that must agree for a network to load the weights of another; `causal` may differ to start from them."""


def shape_difference(theirs: Mapping[str, Any], ours: PreTrainedConfig, *, ignore_causal: bool = False) -> str | None:
    """The first difference in shape between two networks, in words; None if one can load the weights of the other.

    Args:
        theirs: a config as a dictionary.
        ours: the other config.
        ignore_causal: whether a causal network may start a denoiser, and the other way round.
    """
    for name in SHAPE[ignore_causal:]:
        if theirs.get(name) != (own := getattr(ours, name, None)):
            return f"{name} is {theirs.get(name)!r}, here {own!r}"
    return None


def vocabulary_key(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of the token ids of a vocabulary, on which weights depend."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()[:16]


def describe_network(checkpoint: dict[str, Any], config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Add to a checkpoint what `check_checkpoint` and `export` need beside its weights."""
    checkpoint["network_config"] = config.to_dict()
    checkpoint["vocabulary"] = vocabulary_key(tokenizer)


def check_checkpoint(
    checkpoint: Mapping[str, Any],
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    parameters: Collection[str],
) -> None:
    """Check that a checkpoint is of a network with these parameters, and of this tokenizer.

    Raises:
        UserError: another program has written it, or the network or the tokenizer differs.
    """
    if "network_config" not in checkpoint:
        raise UserError("the checkpoint is not of a textdiff run: give another ckpt_path")
    if difference := shape_difference(checkpoint["network_config"], config):
        raise UserError(f"the checkpoint has another shape ({difference}): give the model options of its run")
    if checkpoint["state_dict"].keys() != parameters:
        raise UserError("the checkpoint has other parameters: another version of textdiff has written it")
    if checkpoint.get("vocabulary", own := vocabulary_key(tokenizer)) != own:
        raise UserError("the checkpoint was trained with another tokenizer: set data.tokenizer to that one")


def network_of_run(checkpoint: str | Path, tokenizer: PreTrainedTokenizerBase) -> Transformer | ForeignDenoiser:
    """The network of the `.ckpt` file of a run, with its averaged weights where it has them.

    Args:
        checkpoint: a `.ckpt` file.
        tokenizer: of the same run.

    Raises:
        UserError: the file is not such a checkpoint, or the tokenizer is of another size.
    """
    content = read_checkpoint(checkpoint)
    prefix, weights = "network.", content["state_dict"]
    if any(".lora_" in name for name in weights):
        raise UserError(
            f"{str(checkpoint)!r} is of an adapter, which its run has written to model.to: load that folder"
        )
    tensors = {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix) and isinstance(value, Tensor)
    }
    try:
        config = _config(content["network_config"], len(tensors))
        with torch.device("meta"):
            shapes = {name: value.shape for name, value in _build(config).state_dict().items()}
    except Exception as error:  # whatever values of wrong types lead to
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"the network_config of {str(checkpoint)!r} describes no network ({reason})") from error
    if (size := Vocabulary.of(tokenizer).size) != config.vocab_size:
        raise UserError(
            f"the tokenizer has {size} tokens and the network of {str(checkpoint)!r} {config.vocab_size}: "
            "give the tokenizer of that run"
        )
    if shapes != {name: value.shape for name, value in tensors.items()}:
        raise UserError(f"the weights of {str(checkpoint)!r} do not fit its network_config: give another .ckpt file")
    network = _build(config)
    network.load_state_dict(tensors)
    return network.eval()


def _config(settings: Mapping[str, Any], tensors: int) -> TransformerConfig | ForeignConfig:
    """The config of a network that has so many tensors; it may be of another program."""
    foreign = settings.get("model_type") == ForeignConfig.model_type
    config = ForeignConfig.from_dict(dict(settings)) if foreign else TransformerConfig.from_dict(dict(settings))
    layers = config.num_hidden_layers if isinstance(config, TransformerConfig) else 0
    if layers > tensors:
        raise UserError(f"it has {layers} layers and {tensors} tensors")
    return config


def _build(config: TransformerConfig | ForeignConfig) -> Transformer | ForeignDenoiser:
    return ForeignDenoiser(config) if isinstance(config, ForeignConfig) else Transformer(config)


def export(
    checkpoint: str | Path, tokenizer: PreTrainedTokenizerBase, folder: str | Path, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write the network of a `.ckpt` file and its tokenizer to a folder that `textdiff.load` reads.

    Args:
        checkpoint: a `.ckpt` file of a run; its averaged weights are taken, where it has them.
        tokenizer: of the same run.
        folder: to write config.json, model.safetensors and the tokenizer to.
        dtype: of the weights on disk.

    Raises:
        UserError: the file is not such a checkpoint, the tokenizer is of another size, a weight is not finite, or the
            folder cannot be written.
    """
    place = check_place(folder)
    network = network_of_run(checkpoint, tokenizer)
    for parameter in network.parameters():
        parameter.data = parameter.data.to(dtype)
    write_checkpoint(network, tokenizer, place)
