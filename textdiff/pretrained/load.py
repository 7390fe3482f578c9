"""Reading a checkpoint into a prior."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError, reason
from textdiff.files import as_path, check_checksums, finish
from textdiff.models import FAMILIES, ForeignConfig, ForeignDenoiser, Transformer, TransformerConfig, load_adapter
from textdiff.models.adapter_files import ADAPTER_CONFIG
from textdiff.models.config import NEEDED
from textdiff.models.foreign.families import backbone_config
from textdiff.pretrained.device import network_device, network_dtype
from textdiff.pretrained.network_prior import NetworkPrior, prior_of
from textdiff.pretrained.published import load_published
from textdiff.pretrained.quantization import Quantizer
from textdiff.pretrained.settings import kind_of, read_settings, refuse_code
from textdiff.pretrained.shipped import DEFAULT_CHECKPOINT, adapted, locate, shipped
from textdiff.pretrained.weights import CONFIG, WEIGHTS, Weights, load_weights, without_values
from textdiff.priors.diffusion import DiffusionPrior
from textdiff.samplers import Dependence
from textdiff.text import load_tokenizer
from textdiff.text.quiet import quiet

TOKENIZER = "tokenizer_config.json"
DEPENDENCE = "dependence.json"
"""The file that `textdiff calibrate` adds to a checkpoint."""
SPECIAL = ("pad", "mask", "bos", "eos", "null")


def load(
    folder: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
    quantization: int | None = None,
    *,
    calibration: bool = True,
) -> NetworkPrior:
    """Read a checkpoint: a folder with `config.json`, weights in safetensors and a tokenizer; or an adapter of one.

    Beside textdiff's own, published masked diffusion models and masked language models are read: LLaDA, Dream, MDLM,
    BERT, RoBERTa, ModernBERT (`textdiff.models.FAMILIES`). Nothing but data is read, no code and no pickle, and nothing
    is downloaded unless a name on the Hub is given. Each tensor is brought to its device and type as it is read. Files
    that have checksums (`SHA256SUMS`, as `save` writes it) are checked.

    Args:
        folder: that `save` or `textdiff.training.export` has written, or of a published model, or of an adapter;
            else the name of a shipped checkpoint, by default `stories`; else `owner/name` on the Hugging Face Hub.
        device: of the network.
        dtype: of its weights in memory, whatever it is on disk; a type of torch or its name, such as "bfloat16".
        quantization: bits, 8 or 4, for the weights of the linear layers of a published model, which then takes less
            memory and cannot be saved (`Quantizer`; needs `pip install 'textdiff[quantization]'`).

        calibration: whether to read the file of `textdiff calibrate`, if there is one, for error budgets.

    Returns:
        A `DiffusionPrior`; if the network is causal an `AutoregressivePrior`, or a `FillInMiddlePrior` if it was
        trained to be one.

    Raises:
        TypeError: the argument that it names is of another type.
        UserError: no such checkpoint, a file missing or damaged, a model of unknown type, a tokenizer that does not
            fit, weights that are not finite; no such device; quantization of one of textdiff's own models, or without
            the package.
    """
    device, dtype = network_device(device), network_dtype(dtype)
    if folder is not None:
        as_path(folder, "folder")
    # First, so that a missing package is reported before anything is downloaded.
    quantizer = None if quantization is None else Quantizer(quantization)
    path = shipped(DEFAULT_CHECKPOINT) if folder is None else locate(folder)
    with quiet():
        return _read(path, device, dtype, quantizer, calibration)


def _read(
    path: Path, device: torch.device, dtype: torch.dtype, quantizer: Quantizer | None, calibration: bool = True
) -> NetworkPrior:
    finish(path)
    if (path / ADAPTER_CONFIG).exists():
        prior = _adapted(path, device, dtype, quantizer)
    else:
        prior = _whole(path, device, dtype, quantizer)
    if calibration and isinstance(prior, DiffusionPrior) and (path / DEPENDENCE).exists():
        return replace(prior, dependence=Dependence.load(path / DEPENDENCE))
    return prior


def _whole(path: Path, device: torch.device, dtype: torch.dtype, quantizer: Quantizer | None) -> NetworkPrior:
    """The prior of a folder that holds a whole checkpoint."""
    content = read_settings(path, CONFIG)
    if kind_of(content) in FAMILIES:  # written by others, whose checksums may be in another format
        return prior_of(*load_published(path, content, device, dtype, quantizer=quantizer))
    check_checksums(path)
    refuse_code(path, CONFIG, content)
    config = _config(path, content)
    network = _network(path, config, device, dtype, quantizer)
    refuse_code(path, TOKENIZER, read_settings(path, TOKENIZER))
    tokenizer = load_tokenizer(path)
    _check_tokenizer(path, tokenizer, config)
    return prior_of(network, tokenizer)


def _check_tokenizer(path: Path, tokenizer: PreTrainedTokenizerBase, config: TransformerConfig | ForeignConfig) -> None:
    """Check that a tokenizer has the size and the special tokens of a network."""
    if (size := 1 + max(tokenizer.get_vocab().values())) != config.vocab_size:
        raise UserError(
            f"the tokenizer in {str(path)!r} has {size} tokens, {CONFIG} says {config.vocab_size}: "
            "they are not of one model"
        )
    for name in SPECIAL:
        has, expected = (getattr(of, f"{name}_token_id") for of in (tokenizer, config))
        if has != expected and not (name == "null" and isinstance(config, ForeignConfig) and expected is None):
            raise UserError(
                f"the {name} token of the tokenizer in {str(path)!r} is {has}, {CONFIG} says {expected}: "
                "they are not of one model"
            )


def _adapted(path: Path, device: torch.device, dtype: torch.dtype, quantizer: Quantizer | None) -> NetworkPrior:
    """The checkpoint that an adapter adapts, with the adapter attached."""
    prior = _read(adapted(path), device, dtype, quantizer)
    assert isinstance(prior.network, Transformer | ForeignDenoiser)
    load_adapter(prior.network, path)
    for parameter in prior.network.parameters():
        if parameter.requires_grad:  # the adapter's
            parameter.data = parameter.data.to(device, dtype)
            if not torch.isfinite(parameter).all():
                raise UserError(f"the adapter in {str(path)!r} holds numbers that are too large for {dtype}")
    prior.network.eval()
    return prior


def _config(path: Path, content: dict[str, Any]) -> TransformerConfig | ForeignConfig:
    kinds = {kind.model_type: kind for kind in (TransformerConfig, ForeignConfig)}
    if (kind := kind_of(content)) not in kinds:
        known = [TransformerConfig.model_type, *(name for name, family in FAMILIES.items() if not family.causal)]
        raise UserError(f"the model in {str(path)!r} is of type {kind!r:.80}, expected one of {', '.join(known)}")
    if missing := [name for name in NEEDED if kind == TransformerConfig.model_type and name not in content]:
        raise UserError(f"{CONFIG} in {str(path)!r} describes no model ({missing[0]} is missing)")
    try:
        return kinds[kind].from_dict(content)
    except Exception as error:  # transformers raises whatever a wrong type leads to
        raise UserError(f"{CONFIG} in {str(path)!r} describes no model ({reason(error)})") from error


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
        with without_values():
            network = Transformer(config) if isinstance(config, TransformerConfig) else ForeignDenoiser(config)
    except Exception as error:  # the same
        raise UserError(f"{CONFIG} in {str(path)!r} describes no model ({reason(error)})") from error
    load_weights(network, weights.items(), path, device, dtype, quantizer)
    return network.eval()
