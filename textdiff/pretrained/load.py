"""From a folder or a name to a prior."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.models import FAMILIES, ForeignConfig, ForeignDenoiser, Transformer, TransformerConfig, load_adapter
from textdiff.models.adapters import ADAPTER_CONFIG, base_of
from textdiff.models.foreign.families import backbone_config
from textdiff.pretrained.hub import download, is_hub_id
from textdiff.pretrained.published import published
from textdiff.pretrained.quantization import Quantizer
from textdiff.pretrained.weights import CONFIG, WEIGHTS, Weights, fill
from textdiff.priors.autoregressive import AutoregressivePrior
from textdiff.priors.diffusion import DiffusionPrior
from textdiff.priors.fill_in_middle import FillInMiddlePrior
from textdiff.samplers import Dependence
from textdiff.text import Vocabulary, load_tokenizer

NetworkPrior = DiffusionPrior | AutoregressivePrior | FillInMiddlePrior
"""Priors that a network is behind: they fill a canvas in steps."""

DEFAULT_CHECKPOINT = "stories"
TOKENIZER = "tokenizer_config.json"
DEPENDENCE = "dependence.json"
"""What `textdiff calibrate` leaves in a checkpoint."""
SPECIAL = ("pad", "mask", "bos", "eos", "null")
CODE = ("auto_map", "attn_implementation", "_attn_implementation", "experts_implementation")
"""Settings that may name code, to be fetched and run."""


def load(
    folder: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    quantization: int | None = None,
) -> NetworkPrior:
    """Read a checkpoint: a folder with `config.json`, weights in safetensors and a tokenizer; or an adapter of one.

    Beside our own, masked diffusion models and masked language models of others are read: LLaDA, Dream, MDLM, BERT,
    RoBERTa, ModernBERT (`textdiff.models.FAMILIES`). Nothing but data is read, no code and no pickle; and nothing comes
    from the network, unless a name on the Hub is given. Weights go straight to their device and type.

    Args:
        folder: what `save` or `textdiff.training.export` wrote, or a published model; the name of a shipped checkpoint
            if there is no such folder, by default `stories`; or `owner/name` on the Hugging Face Hub. The folder of an
            adapter names the checkpoint that it adapts.
        device: where the network shall live.
        dtype: of its weights in memory, whatever it is on disk.
        quantization: keep the weights of the linear layers of a model of another making in 8 or 4 bits (`Quantizer`,
            which needs `pip install 'textdiff[quantization]'`), to fill gaps with it in less memory; it is not saved.

    Returns:
        A `DiffusionPrior`; if the network is causal an `AutoregressivePrior`, or a `FillInMiddlePrior` if it was
        trained to be one.

    Raises:
        UserError: no such folder, a file missing or damaged, another kind of model, a tokenizer that does not fit;
            quantization of a model that it is not for, or without the package.
    """
    quantizer = None if quantization is None else Quantizer(quantization)  # told before anything is fetched
    path = shipped(DEFAULT_CHECKPOINT) if folder is None else found(folder)
    if (path / ADAPTER_CONFIG).is_file():
        return _adapted(path, device, dtype, quantization)
    content = _json(path, CONFIG)
    if content.get("model_type") in FAMILIES:
        return prior_of(*published(path, content, device, dtype, quantizer=quantizer))
    _no_code(path, CONFIG, content)
    network = _network(path, _config(path, content), device, dtype, quantizer)
    _no_code(path, TOKENIZER, _json(path, TOKENIZER))
    tokenizer, config = load_tokenizer(path), network.config
    if (size := Vocabulary.of(tokenizer).size) != config.vocab_size:
        raise UserError(
            f"the tokenizer in {str(path)!r} has {size} tokens, {CONFIG} says {config.vocab_size}: "
            "they are not of one model"
        )
    for name in SPECIAL:
        has, expected = (getattr(of, f"{name}_token_id") for of in (tokenizer, config))
        if has != expected and not (name == "null" and _lacks_null(network)):
            raise UserError(
                f"the {name} token of the tokenizer in {str(path)!r} is {has}, {CONFIG} says {expected}: "
                "they are not of one model"
            )
    prior = prior_of(network, tokenizer)
    if isinstance(prior, DiffusionPrior) and (path / DEPENDENCE).exists():
        return replace(prior, dependence=Dependence.load(path / DEPENDENCE))
    return prior


def described(folder: str | Path) -> tuple[Path, TransformerConfig | ForeignConfig]:
    """Where the tokenizer of a checkpoint lies, or of the one that an adapter adapts, and the shape of its network.

    Raises:
        UserError: there is no such checkpoint.
    """
    path = found(folder)
    return described(base_of(path)) if (path / ADAPTER_CONFIG).is_file() else (path, _config(path, _json(path, CONFIG)))


def convert(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> DiffusionPrior:
    """The beginning of a masked diffusion model: a published model, a causal one above all, that looks both ways.

    It gets what it lacks of the special tokens, `null` among them, as new rows with the mean of all others; a causal
    model keeps its shifted outputs. Trained it has yet to be: `configs/convert`.

    Args:
        folder: of the model, or `owner/name` on the Hugging Face Hub.
        device, dtype: see `load`.

    Raises:
        UserError: see `load`.
    """
    path = found(folder)
    content = _json(path, CONFIG)
    if (kind := content.get("model_type")) not in FAMILIES:
        if kind == TransformerConfig.model_type:
            fix = (
                f"a prior learns from where it stopped by model.init_from: {folder} in a configuration of textdiff fit"
            )
            raise UserError(f"the model in {str(path)!r} is textdiff's own: {fix}, as in configs/stories.yaml")
        raise UserError(f"the model in {str(path)!r} is of type {kind!r}, expected one of {', '.join(FAMILIES)}")
    prior = prior_of(*published(path, content, device, dtype, grow=True))
    assert isinstance(prior, DiffusionPrior)
    return prior


def prior_of(
    network: Transformer | ForeignDenoiser, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary | None = None
) -> NetworkPrior:
    """The prior that a network is: autoregressive if it is causal, else masked diffusion."""
    if vocabulary is None:
        vocabulary = Vocabulary.of(tokenizer, null=not _lacks_null(network))
    if isinstance(network, Transformer) and network.config.fill_in_middle:
        return FillInMiddlePrior(network, tokenizer, vocabulary)
    if isinstance(network, Transformer) and network.config.causal:
        return AutoregressivePrior(network, tokenizer, vocabulary)
    return DiffusionPrior(network, tokenizer, vocabulary)


def _lacks_null(network: Transformer | ForeignDenoiser) -> bool:
    """Whether it was trained by others, who know no token for an unused slot."""
    return isinstance(network, ForeignDenoiser) and network.config.null_token_id is None


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
    if is_hub_id(folder):
        return download(str(folder))
    what = "is a file, no checkpoint" if os.path.exists(folder) else "is no folder, and no shipped checkpoint"
    names = f" or one of {', '.join(sorted(folders))}" if folders else ""
    raise UserError(f"{str(folder)!r} {what}: give a folder with {CONFIG} and {WEIGHTS}{names}")


def _adapted(path: Path, device: str | torch.device, dtype: torch.dtype, quantization: int | None) -> NetworkPrior:
    """The checkpoint that an adapter adapts, with the adapter in it."""
    base = found(base_of(path))
    if (base / ADAPTER_CONFIG).is_file():
        raise UserError(
            f"the adapter in {str(path)!r} adapts another adapter, {str(base)!r}: give it a whole checkpoint"
        )
    prior = load(base, device, dtype, quantization)
    assert isinstance(prior.network, Transformer | ForeignDenoiser)
    load_adapter(prior.network, path)
    for parameter in prior.network.parameters():
        if parameter.requires_grad:  # the adapter's
            parameter.data = parameter.data.to(device, dtype)
    prior.network.eval()
    return prior


def _json(path: Path, name: str) -> dict[str, Any]:
    """A file of settings."""
    try:
        content = json.loads((path / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {name} in {str(path)!r}: give a folder that holds a textdiff checkpoint") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{name} in {str(path)!r} is damaged ({_reason(error)}): copy the checkpoint again") from error
    if not isinstance(content, dict):
        raise UserError(f"{name} in {str(path)!r} is damaged (no settings in it): copy the checkpoint again")
    return content


def _no_code(path: Path, name: str, content: dict[str, Any]) -> None:
    """Refuse settings that ask to run code: ours have no need to."""
    for setting in CODE:
        if setting in content:
            raise UserError(
                f"{name} in {str(path)!r} asks to run code of its own ({setting}): textdiff never does that"
            )


def _config(path: Path, content: dict[str, Any]) -> TransformerConfig | ForeignConfig:
    kinds = {kind.model_type: kind for kind in (TransformerConfig, ForeignConfig)}
    if (kind := content.get("model_type")) not in kinds:
        known = [TransformerConfig.model_type, *(name for name, family in FAMILIES.items() if not family.causal)]
        raise UserError(f"the model in {str(path)!r} is of type {kind!r}, expected one of {', '.join(known)}")
    try:
        return kinds[kind].from_dict(content)
    except Exception as error:  # transformers raises whatever a wrong type leads to
        raise UserError(f"{CONFIG} in {str(path)!r} describes no model ({_reason(error)})") from error


def _network(
    path: Path,
    config: TransformerConfig | ForeignConfig,
    device: str | torch.device,
    dtype: torch.dtype,
    quantizer: Quantizer | None,
) -> Transformer | ForeignDenoiser:
    if quantizer is not None and not isinstance(config, ForeignConfig):
        raise UserError(f"the model in {str(path)!r} is textdiff's own, which is small: leave quantization out")
    weights = Weights(path)
    shape = backbone_config(config.backbone) if isinstance(config, ForeignConfig) else config
    if shape.num_hidden_layers > len(weights):
        counts = f"{shape.num_hidden_layers} layers, {len(weights)} tensors"
        raise UserError(f"{WEIGHTS} in {str(path)!r} does not fit {CONFIG}: {counts}")
    try:
        with torch.device("meta"):
            network = Transformer(config) if isinstance(config, TransformerConfig) else ForeignDenoiser(config)
    except Exception as error:  # likewise
        raise UserError(f"{CONFIG} in {str(path)!r} describes no model ({_reason(error)})") from error
    fill(network, weights.items(), path, device, dtype, quantizer)
    return network.eval()


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
