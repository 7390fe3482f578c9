"""From a folder to a prior."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.models import Transformer, TransformerConfig, load_adapter
from textdiff.models.adapters import ADAPTER_CONFIG, base_of
from textdiff.priors.autoregressive import AutoregressivePrior
from textdiff.priors.diffusion import DiffusionPrior
from textdiff.priors.middle import FillInMiddlePrior
from textdiff.samplers import Dependence
from textdiff.text import Vocabulary, load_tokenizer

NetworkPrior = DiffusionPrior | AutoregressivePrior | FillInMiddlePrior
"""Priors that a network is behind: they fill a canvas in steps."""

DEFAULT_CHECKPOINT = "stories"
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer_config.json"
DEPENDENCE = "dependence.json"
"""What `textdiff calibrate` leaves in a checkpoint."""
SPECIAL = ("pad", "mask", "bos", "eos", "null")


def load(
    folder: str | Path | None = None, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> NetworkPrior:
    """Read a checkpoint: a folder with `config.json`, `model.safetensors` and a tokenizer; or an adapter of one.

    Nothing but data is read: no code, no pickle, nothing from the network.

    Args:
        folder: what `textdiff.training.export` wrote, or the name of a shipped checkpoint if there is no such folder;
            by default the shipped `stories`. The folder of an adapter names the checkpoint that it adapts.
        device: where the network shall live.
        dtype: of its weights in memory, whatever it is on disk.

    Returns:
        A `DiffusionPrior`; if the network is causal an `AutoregressivePrior`, or a `FillInMiddlePrior` if it was
        trained to be one.

    Raises:
        UserError: no such folder, a file missing or damaged, another kind of model, a tokenizer that does not fit.
    """
    path = shipped(DEFAULT_CHECKPOINT) if folder is None else found(folder)
    if (path / ADAPTER_CONFIG).is_file():
        prior = load(base_of(path), device, dtype)
        assert isinstance(prior.network, Transformer)
        load_adapter(prior.network, path)
        prior.network.type(dtype).eval()
        return prior
    config = _config(path)
    network = _network(path, config, device, dtype)
    _json(path, TOKENIZER)
    tokenizer = load_tokenizer(path)
    if (size := Vocabulary.of(tokenizer).size) != config.vocab_size:
        raise UserError(
            f"the tokenizer in {str(path)!r} has {size} tokens, {CONFIG} says {config.vocab_size}: "
            "they are not of one model"
        )
    for name in SPECIAL:
        has, expected = (getattr(of, f"{name}_token_id") for of in (tokenizer, config))
        if has != expected:
            raise UserError(
                f"the {name} token of the tokenizer in {str(path)!r} is {has}, {CONFIG} says {expected}: "
                "they are not of one model"
            )
    prior = prior_of(network, tokenizer)
    if isinstance(prior, DiffusionPrior) and (path / DEPENDENCE).exists():
        return replace(prior, dependence=Dependence.load(path / DEPENDENCE))
    return prior


def described(folder: str | Path) -> tuple[Path, TransformerConfig]:
    """Where the tokenizer of a checkpoint lies, or of the one that an adapter adapts, and the shape of its network.

    Raises:
        UserError: there is no such checkpoint.
    """
    path = _find(folder)
    return described(base_of(path)) if (path / ADAPTER_CONFIG).is_file() else (path, _config(path))


def prior_of(
    network: Transformer, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary | None = None
) -> NetworkPrior:
    """The prior that a network is: autoregressive if it is causal, else masked diffusion."""
    vocabulary = Vocabulary.of(tokenizer) if vocabulary is None else vocabulary
    if network.config.fill_in_middle:
        return FillInMiddlePrior(network, tokenizer, vocabulary)
    if network.config.causal:
        return AutoregressivePrior(network, tokenizer, vocabulary)
    return DiffusionPrior(network, tokenizer, vocabulary)


def shipped(name: str) -> Path:
    """Folder of a checkpoint that comes with the package, such as "stories" or "stories-ar".

    Raises:
        UserError: there is none of that name.
    """
    folders = _shipped()
    if name not in folders:
        there = f"only {', '.join(sorted(folders))}" if folders else "this installation has none"
        raise UserError(f"no checkpoint {name!r} comes with textdiff, {there}: give the folder of a checkpoint")
    return folders[name]


def _shipped() -> dict[str, Path]:
    """Checkpoints by name: inside an installed package, or next to the package in a clone of the repository."""
    package = Path(__file__).resolve().parents[1]
    places = [package.parent / "checkpoints", package / "checkpoints"]
    return {config.parent.name: config.parent for place in places for config in sorted(place.glob(f"*/{CONFIG}"))}


def found(folder: str | Path) -> Path:
    """The folder of a checkpoint, which may be named like one that comes with the package.

    Raises:
        UserError: there is no such folder.
    """
    folders = _shipped()
    if os.path.isdir(folder):
        return Path(folder)
    if str(folder) in folders:
        return folders[str(folder)]
    what = "is a file, no checkpoint" if os.path.exists(folder) else "is no folder, and no shipped checkpoint"
    names = f" or one of {', '.join(sorted(folders))}" if folders else ""
    raise UserError(f"{str(folder)!r} {what}: give a folder with {CONFIG} and {WEIGHTS}{names}")


def _json(path: Path, name: str) -> dict[str, Any]:
    """A file of settings, refused if it asks to run code of its own."""
    try:
        content = json.loads((path / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {name} in {str(path)!r}: give a folder that holds a textdiff checkpoint") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{name} in {str(path)!r} is damaged ({error}): copy the checkpoint again") from error
    if not isinstance(content, dict):
        raise UserError(f"{name} in {str(path)!r} is damaged (no settings in it): copy the checkpoint again")
    if "auto_map" in content:
        raise UserError(f"{name} in {str(path)!r} asks to run code of its own (auto_map): textdiff never does that")
    return content


def _config(path: Path) -> TransformerConfig:
    content = _json(path, CONFIG)
    kind = content.get("model_type")
    if kind != TransformerConfig.model_type:
        raise UserError(f"the model in {str(path)!r} is of type {kind!r}, expected {TransformerConfig.model_type!r}")
    try:
        return TransformerConfig.from_dict(content)
    except Exception as error:  # transformers raises whatever a wrong type leads to
        raise UserError(f"{CONFIG} in {str(path)!r} describes no model ({_reason(error)})") from error


def _network(path: Path, config: TransformerConfig, device: str | torch.device, dtype: torch.dtype) -> Transformer:
    state = _weights(path)
    try:
        with torch.device("meta"):
            network = Transformer(config)
    except UserError as error:
        raise UserError(f"{CONFIG} in {str(path)!r} describes no model ({error})") from error
    own = {name: weight.shape for name, weight in network.state_dict().items()}
    if config.tie_word_embeddings:
        del own["head.weight"]
    there = {name: weight.shape for name, weight in state.items() if weight.is_floating_point()}
    if wrong := sorted(name for name in own.keys() | state.keys() if own.get(name) != there.get(name)):
        raise UserError(f"{WEIGHTS} in {str(path)!r} does not fit {CONFIG}, first at {wrong[0]!r}: copy both again")
    try:
        network = network.type(dtype).to_empty(device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {str(device)!r} cannot be used ({_reason(error)})") from error
    network.tie_weights()
    network.load_state_dict(state, strict=not config.tie_word_embeddings)
    return network.eval()


def _weights(path: Path) -> dict[str, Tensor]:
    if not (path / WEIGHTS).is_file():
        raise UserError(f"no {WEIGHTS} in {str(path)!r}: only weights in safetensors are read, no pickled ones")
    try:
        return load_file(path / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{WEIGHTS} in {str(path)!r} cannot be read ({_reason(error)}): copy the checkpoint again"
        ) from error


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
