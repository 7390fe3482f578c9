"""Checkpoints of a training run: written atomically, checked before use, exported to a folder."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, final
from zipfile import is_zipfile

import torch
from lightning.fabric.plugins import CheckpointIO
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.files import atomically
from textdiff.models import ForeignConfig, ForeignDenoiser, Transformer, TransformerConfig
from textdiff.text import Vocabulary

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


@final
class AtomicCheckpointIO(CheckpointIO):
    """Local checkpoint files that are replaced atomically, so that a kill while saving leaves the old one intact.

    Lightning's own class first writes to the system's temporary folder; from there to another file system a move is a
    copy, which can be cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write to a temporary file, then rename it."""
        with atomically(Path(path)) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read tensors and plain values; code in a checkpoint is never run."""
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a file."""
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of the `.ckpt` file of a run, its tensors memory-mapped.

    Raises:
        UserError: the file is missing, damaged or of another program.
    """
    if not Path(path).is_file():
        raise UserError(f"no checkpoint at {str(path)!r}: give a .ckpt file that a textdiff run has written")
    reason = "the file is not whole"
    try:
        if is_zipfile(path):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            if isinstance(content, dict) and {"state_dict", "network_config"} <= content.keys():
                return content
            reason = "it holds no network_config"
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    raise UserError(f"{str(path)!r} is no checkpoint of a textdiff run, or damaged ({reason}): give another .ckpt file")


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
    settings = content["network_config"]
    foreign = settings.get("model_type") == ForeignConfig.model_type
    config = ForeignConfig.from_dict(settings) if foreign else TransformerConfig.from_dict(settings)
    if (size := Vocabulary.of(tokenizer).size) != config.vocab_size:
        raise UserError(
            f"the tokenizer has {size} tokens and the network of {str(checkpoint)!r} {config.vocab_size}: "
            "give the tokenizer of that run"
        )
    if any(".lora_" in name for name in content["state_dict"]):
        raise UserError(
            f"{str(checkpoint)!r} is of an adapter, which its run has written to model.to: load that folder"
        )
    network = ForeignDenoiser(config) if isinstance(config, ForeignConfig) else Transformer(config)
    prefix = "network."
    network.load_state_dict(
        {name.removeprefix(prefix): value for name, value in content["state_dict"].items() if name.startswith(prefix)}
    )
    return network.eval()


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
        UserError: the file is not such a checkpoint, or the tokenizer is of another size.
    """
    network = network_of_run(checkpoint, tokenizer)
    for parameter in network.parameters():
        parameter.data = parameter.data.to(dtype)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
