"""Checkpoints of others, as they were published: a denoiser and a tokenizer whose special tokens fit it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.models import FAMILIES, Family, ForeignConfig, ForeignDenoiser
from textdiff.models.foreign.families import backbone_config
from textdiff.pretrained.hub import download
from textdiff.pretrained.quantization import Quantizer
from textdiff.pretrained.weights import CONFIG, WEIGHTS, WRAPPED, Weights, fill
from textdiff.text import SPECIAL_TOKENS, read_tokenizer, with_special_tokens

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "tokenizer.model")
"""A folder with none of these brings no tokenizer."""


def published(
    path: Path,
    settings: Mapping[str, Any],
    device: str | torch.device,
    dtype: torch.dtype,
    grow: bool = False,
    quantizer: Quantizer | None = None,
) -> tuple[ForeignDenoiser, PreTrainedTokenizerBase]:
    """The denoiser and the tokenizer of a published checkpoint. Code that it names is left alone.

    Args:
        path: the folder.
        settings: its `config.json`; the model type is one of `FAMILIES`.
        device: where the network shall live.
        dtype: of its weights in memory.
        grow: give the network rows for the special tokens that it lacks, `null` among them; it has to learn them.
        quantizer: of the weights; None: they stay as they are.

    Raises:
        UserError: damaged files, settings that are not known, weights or a tokenizer of another model; or, without
            `grow`, a causal model, or special tokens that cannot do without.
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
    except UserError as error:
        raise UserError(f"the tokenizer in {str(path)!r} does not fit the model: {error}") from error
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
        with torch.device("meta"):
            network = ForeignDenoiser(config)
    except KeyError as error:
        raise UserError(f"{CONFIG} in {str(path)!r} describes no model ({error} is missing)") from error
    except Exception as error:  # transformers raises whatever a wrong type leads to
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{CONFIG} in {str(path)!r} describes no model ({reason})") from error
    named = ((f"{WRAPPED}{name}", value) for name, value in family.weights(weights))
    try:
        fill(network, named, path, device, dtype, quantizer)
    except KeyError as error:
        raise UserError(f"{WEIGHTS} in {str(path)!r} does not fit {CONFIG}: {error} is missing") from error
    return network.eval()


def _tokenizer(path: Path, family: Family) -> PreTrainedTokenizerBase:
    """As published; fetched from the Hub if models of that kind are published without one."""
    if family.borrowed is not None and not any((path / name).is_file() for name in TOKENIZERS):
        path = download(family.borrowed, weights=False)
    return read_tokenizer(path, family.tokenizer)


def _name_mask(tokenizer: PreTrainedTokenizerBase, mask: Any, grow: bool) -> None:
    """See that the tokenizer calls the mask its mask, whose id the config may tell."""
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
    """Make the vocabulary as large as `size`, and the rows of `new` tokens the mean of those that were learnt."""
    backbone, rows = network.backbone, network.config.rows
    if size > rows:
        backbone.resize_token_embeddings(size, mean_resizing=False)
        network.config.backbone["vocab_size"] = size  # type: ignore[assignment]
    learnt = [i for i in range(rows) if i not in set(new)]
    layers: list[nn.Module] = [backbone.get_input_embeddings(), backbone.get_output_embeddings()]
    tables: dict[int, Tensor] = {id(layer.weight): layer.weight for layer in layers}  # type: ignore[misc]
    for table in tables.values():
        table[new] = table[learnt].float().mean(dim=0).to(table.dtype)
