"""Reading published models of other libraries: a denoiser, and a tokenizer whose special tokens fit it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError, reason
from textdiff.models import FAMILIES, Family, ForeignConfig, ForeignDenoiser
from textdiff.models.foreign.families import backbone_config
from textdiff.pretrained.hub import download
from textdiff.pretrained.quantization import Quantizer
from textdiff.pretrained.weights import CONFIG, WEIGHTS, WRAPPED, Weights, load_weights, without_values
from textdiff.text import SPECIAL_TOKENS, read_tokenizer, with_special_tokens

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "tokenizer.model")
"""Files of a tokenizer; a folder with none of these has none."""


def load_published(
    path: Path,
    settings: Mapping[str, Any],
    device: str | torch.device,
    dtype: torch.dtype,
    grow: bool = False,
    quantizer: Quantizer | None = None,
) -> tuple[ForeignDenoiser, PreTrainedTokenizerBase]:
    """The denoiser and the tokenizer of a published checkpoint. No code that it names is run.

    Args:
        path: the folder.
        settings: its `config.json`; the model type is one of `FAMILIES`.
        device: of the network.
        dtype: of its weights in memory.
        grow: add embedding rows for the special tokens that the network lacks, `null` among them, to be trained.
        quantizer: of the weights; None: they are not quantized.

    Raises:
        UserError: damaged files, unknown settings, weights or a tokenizer of another model; or, without `grow`, a
            causal model, or a tokenizer that lacks its mask or end of text.
    """
    kind = settings["model_type"]
    family = FAMILIES[kind]
    if family.causal and not grow:
        raise UserError(
            f"the model in {str(path)!r} is a causal language model ({kind}), which fills no gaps before it has learnt "
            "to: textdiff convert makes a masked diffusion model of it, to be trained by configs/convert"
        )
    network = _network(path, settings, family, device, dtype, quantizer)
    tokenizer = _tokenizer(path, family)
    if (most := max(tokenizer.get_vocab().values())) >= network.config.rows:
        raise UserError(
            f"the tokenizer in {str(path)!r} has a token {most}, {CONFIG} a vocabulary of {network.config.rows}: "
            "they are not of one model"
        )
    try:
        mask = family.mask(settings)
        _name_mask(tokenizer, mask, grow)
        known = len(tokenizer)
        if not grow and tokenizer.bos_token is None and tokenizer.cls_token is None:
            tokenizer.bos_token = tokenizer.eos_token  # what ends a text comes before the next one
        with_special_tokens(tokenizer)
        if not grow and tokenizer.eos_token_id >= known:
            raise UserError("it has no token that ends a text (eos or sep)")
    except Exception as error:  # of the backend, that finds out about damaged files when a token is asked for
        raise UserError(f"the tokenizer in {str(path)!r} does not fit the model: {reason(error)}") from error
    if grow:
        _grow(network, len(tokenizer), list(range(known, len(tokenizer))))
    special = {f"{name}_id": getattr(tokenizer, f"{name}_id") for name in SPECIAL_TOKENS}
    special["null_token_id"] = tokenizer.null_token_id if grow else None
    size = 1 + max(tokenizer.get_vocab().values())
    network.config = _config(path, network.config.backbone, family, vocab_size=size, **special)
    return network, tokenizer


def _config(path: Path, backbone: dict[str, Any], family: Family, **special: Any) -> ForeignConfig:
    try:
        return ForeignConfig(backbone=backbone, shifted=family.shifted, **special)
    except UserError as error:
        raise UserError(f"{CONFIG} in {str(path)!r} describes no model ({error})") from error


def _network(
    path: Path,
    settings: Mapping[str, Any],
    family: Family,
    device: str | torch.device,
    dtype: torch.dtype,
    quantizer: Quantizer | None,
) -> ForeignDenoiser:
    weights = Weights(path)
    try:
        backbone = family.backbone(settings)
        config = ForeignConfig(backbone=backbone, shifted=family.shifted)
        depth = backbone_config(backbone).num_hidden_layers
        if depth > len(weights):
            raise UserError(f"{depth} layers, and {len(weights)} tensors in {WEIGHTS}")
        with without_values():
            network = ForeignDenoiser(config)
    except KeyError as error:
        raise UserError(f"{CONFIG} in {str(path)!r} describes no model ({error} is missing)") from error
    except Exception as error:  # transformers raises whatever a wrong type leads to
        raise UserError(f"{CONFIG} in {str(path)!r} describes no model ({reason(error)})") from error
    named = ((f"{WRAPPED}{name}", value) for name, value in family.weights(weights))
    try:
        load_weights(network, named, path, device, dtype, quantizer)
    except KeyError as error:
        raise UserError(f"{WEIGHTS} in {str(path)!r} does not fit {CONFIG}: {error} is missing") from error
    return network.eval()


def _tokenizer(path: Path, family: Family) -> PreTrainedTokenizerBase:
    """The published tokenizer; downloaded from the Hub if models of that family are published without one."""
    if family.borrowed is not None and not any((path / name).is_file() for name in TOKENIZERS):
        path = download(family.borrowed, weights=False)
    return read_tokenizer(path, family.tokenizer)


def _name_mask(tokenizer: PreTrainedTokenizerBase, mask: Any, grow: bool) -> None:
    """Make the mask of the config, if it names one, the mask token of the tokenizer."""
    if mask is None:
        if tokenizer.mask_token is None and not grow:
            raise UserError(f"neither it nor {CONFIG} names a mask token")
        return
    if tokenizer.mask_token_id not in (None, mask):
        raise UserError(f"its mask token is {tokenizer.mask_token_id}, {CONFIG} says {mask}")
    names = {i: name for name, i in tokenizer.get_vocab().items()}
    if mask != len(tokenizer) and mask not in names:
        raise UserError(f"{CONFIG} says that token {mask} is the mask, and it has no such token")
    tokenizer.add_special_tokens({"mask_token": names.get(mask, SPECIAL_TOKENS["mask_token"])})


@torch.no_grad()
def _grow(network: ForeignDenoiser, size: int, new: list[int]) -> None:
    """Enlarge the vocabulary to `size`, and set the rows of `new` tokens to the mean of the trained ones."""
    backbone, rows = network.backbone, network.config.rows
    if size > rows:
        backbone.resize_token_embeddings(size, mean_resizing=False)
        network.config.backbone["vocab_size"] = size  # type: ignore[assignment]
    trained = [i for i in range(rows) if i not in set(new)]
    layers: list[nn.Module] = [backbone.get_input_embeddings(), backbone.get_output_embeddings()]
    tables: dict[int, Tensor] = {id(layer.weight): layer.weight for layer in layers}  # type: ignore[misc]
    for table in tables.values():
        table[new] = table[trained].float().mean(dim=0).to(table.dtype)
