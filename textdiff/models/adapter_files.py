"""Adapters on disk: what peft writes is read as peft reads it, or refused by the name of the option."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import regex
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from textdiff.errors import UserError, reason
from textdiff.files import check_checksums, check_plain, probe_folder, read_json, whole_folder, write_checksums
from textdiff.files.fields import FLAG, SHARE, Field, check_fields, choice, number, whole
from textdiff.models.adapters import adapter_configs, home_of, is_of_adapter, use_adapter
from textdiff.models.foreign.denoiser import ForeignDenoiser
from textdiff.text.quiet import quiet

if TYPE_CHECKING:
    from peft import LoraConfig

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What peft puts before the names of weights in its files."""
WRAPPED = "backbone."
"""Prefix of the names of the weights of a published model in a denoiser; its own adapters lack it."""
MOST_BYTES = 2**40
SECONDS = 1.0
"""For the patterns of one adapter: regular expressions of others, that may be made to take for ever."""


def _texts(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(isinstance(one, str) for one in values)


def _pattern(fits: Field) -> Field:
    return Field(lambda value: isinstance(value, dict) and all(map(fits.fits, value.values())), fits.expected)


_ANY_NUMBER = number(lambda value: True, "a number")
OPTIONS = {
    "r": whole(),
    "lora_alpha": _ANY_NUMBER,
    "lora_dropout": SHARE,
    **dict.fromkeys(("use_rslora", "use_dora", "lora_bias", "fan_in_fan_out"), FLAG),
    "rank_pattern": _pattern(whole()).optional(),
    "alpha_pattern": _pattern(_ANY_NUMBER).optional(),
    **dict.fromkeys(("target_modules", "exclude_modules"), Field(_texts, "expected names of modules, or a pattern")),
    "bias": choice("none"),
    "init_lora_weights": Field(
        lambda value: value in (True, False, None, "gaussian", "orthogonal", "eva"),
        "which changes the weights of the base: convert it (path_initial_model_for_weight_conversion of peft)",
    ),
}
"""What the options of peft that are read may be."""
INERT = {
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "task_type", "revision", "peft_version",
    "megatron_core", "layers_to_transform", "layers_pattern", "loftq_config", "eva_config", "runtime_config",
    "qalora_group_size", "ensure_weight_tying",
}  # fmt: skip
"""Options without effect on an adapter that has been trained: the names of its weights say which layers it adapts."""


def check_adapter_place(folder: str | Path, name: str = "folder") -> Path:
    """Check that an adapter can be written to a folder, which need not exist; returns its path.

    Args:
        folder: to write to.
        name: of the argument, for messages.

    Raises:
        UserError: it is a file, cannot be written, or holds a whole checkpoint, which the adapter would hide.
    """
    path = probe_folder(folder, name)
    if (path / "config.json").exists():
        raise UserError(f"{str(path)!r} holds a whole checkpoint, which an adapter would hide: name another folder")
    return path


def save_adapter(network: nn.Module, folder: str | Path, base: str, name: str = "default") -> None:
    """Write an adapter in peft's own format: `adapter_config.json` and `adapter_model.safetensors`, with a checksum.

    Args:
        network: has the adapter.
        folder: to write to.
        base: folder or name of the checkpoint that it adapts, for `textdiff.load(folder)`.
        name: of the adapter.

    Raises:
        UserError: the folder cannot be written or holds a whole checkpoint, or a weight is not finite.
    """
    from peft import get_peft_model_state_dict

    path, config = check_adapter_place(folder), adapter_configs(network)[name]
    config.base_model_name_or_path = base
    with quiet():
        weights = get_peft_model_state_dict(home_of(network, name), adapter_name=name, save_embedding_layers=False)
    _check_finite(weights, "the adapter", "training has diverged, train with a lower learning rate")
    with whole_folder(path) as part:
        config.save_pretrained(str(part))
        save_file({PREFIX + key: value.contiguous().cpu() for key, value in weights.items()}, part / ADAPTER_WEIGHTS)
        write_checksums(part, [ADAPTER_WEIGHTS])


def base_of(folder: str | Path) -> str:
    """The checkpoint that the adapter in a folder adapts.

    Raises:
        UserError: the folder's settings are damaged or name none.
    """
    return str(_settings(Path(folder))["base_model_name_or_path"])


def load_adapter(network: PreTrainedModel, folder: str | Path, name: str = "default") -> None:
    """Read an adapter from a folder into a network, in place, and switch to it; no code in the folder is run.

    Args:
        network: one of textdiff's own, or a published one; adapters of the latter that peft has made by itself, for
            the model of transformers, are read as well.
        folder: as peft writes it.
        name: of the adapter from now on.

    Raises:
        UserError: the folder holds no adapter, one of another network, or one with an option that is not read.
    """
    from peft import inject_adapter_in_model, set_peft_model_state_dict

    path = Path(folder)
    where, settings = f"the adapter in {str(path)!r}", _settings(path)
    weights = _weights(path, where)
    place: nn.Module = network
    if isinstance(network, ForeignDenoiser) and not any(key.startswith(WRAPPED) for key in weights):
        place = network.backbone
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            config = _config(settings, weights)
            # On the meta device: whatever the settings say, no memory is taken but for the weights of the file.
            inject_adapter_in_model(config, place, adapter_name=name, low_cpu_mem_usage=True)
            outcome: Any = set_peft_model_state_dict(place, weights, adapter_name=name, low_cpu_mem_usage=True)
    except UserError as error:
        raise UserError(f"{where} cannot be read: {error}") from error
    except (ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{where} does not fit its network ({reason(error)}): copy it again") from error
    missing = [key for key, value in network.named_parameters() if is_of_adapter(key, name) and value.is_meta]
    if outcome.unexpected_keys or missing or _lacking(place, settings, weights):
        raise UserError(f"{where} is of another network: give the checkpoint that it names")
    for key, parameter in network.named_parameters():
        parameter.requires_grad_(is_of_adapter(key, name))
    adapter_configs(network)[name] = config
    use_adapter(network, name)


def _settings(folder: Path) -> dict[str, Any]:
    """What peft has written about an adapter of a named checkpoint."""
    try:
        content = read_json(folder / ADAPTER_CONFIG)
        if content["peft_type"] != "LORA" or not isinstance(content["base_model_name_or_path"], str):
            raise ValueError("no LoRA adapter of a named checkpoint")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{ADAPTER_CONFIG} in {str(folder)!r} is damaged ({reason(error)}): copy the adapter again"
        ) from error
    return content


def _weights(folder: Path, where: str) -> dict[str, Tensor]:
    """The weights of an adapter by their names in the network that it adapts."""
    check_checksums(folder)
    try:
        check_plain(folder / ADAPTER_WEIGHTS, MOST_BYTES)
        found = load_file(folder / ADAPTER_WEIGHTS)
    except FileNotFoundError:
        raise UserError(f"no {ADAPTER_WEIGHTS} in {str(folder)!r}: only weights in safetensors are read") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{where} does not fit its network ({reason(error)}): copy it again") from error
    _check_finite(found, where, "copy it again")
    return {key.removeprefix(PREFIX): value for key, value in found.items()}


def _check_finite(weights: Mapping[str, Tensor], where: str, fix: str) -> None:
    for key, value in weights.items():
        if not value.is_floating_point() or not torch.isfinite(value).all():
            raise UserError(f"{where} holds numbers that are not finite (NaN or infinite), first in {key!r}: {fix}")


def _config(settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> LoraConfig:
    """The adapter as peft describes it, its layers by their full names.

    Raises:
        UserError: an option that is not read, or that does not fit the weights.
    """
    from peft import LoraConfig

    given = {name: value for name, value in settings.items() if value is not None}
    defaults = LoraConfig().to_dict()
    for name in sorted(given.keys() - OPTIONS.keys() - INERT):
        if given[name] not in (False, [], {}, defaults.get(name)):
            raise UserError(f"it was made with the option {name!r:.60} of peft, which is not read")
    check_fields(given, OPTIONS)
    rows = {key.partition(".lora_")[0]: len(value) for key, value in weights.items() if _RANK.search(key)}
    rank, alpha = given.get("r", defaults["r"]), given.get("lora_alpha", defaults["lora_alpha"])
    ranks = _by_layer(given.get("rank_pattern", {}), rows)
    for layer, found in rows.items():
        if found != (expected := ranks.get(layer, rank)):
            raise UserError(f"its rank is {expected}, and its weights for {layer!r:.80} have rank {found}")
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=sorted(rows),
        rank_pattern=ranks,
        alpha_pattern=_by_layer(given.get("alpha_pattern", {}), rows),
        init_lora_weights=False,  # all of them come from the file
        **{name: given[name] for name in ("lora_dropout", *_FLAGS) if name in given},
    )


_FLAGS = ("use_rslora", "use_dora", "lora_bias", "fan_in_fan_out")
_RANK = regex.compile(r"\.lora_(A\.weight|embedding_A)$")
"""Weights with a row for each rank."""


def _by_layer(patterns: Mapping[str, Any], layers: Mapping[str, int]) -> dict[str, Any]:
    """The values of patterns by the layers that they match, as peft matches them: the first pattern counts."""
    found: dict[str, Any] = {}
    try:
        for pattern, value in patterns.items():
            compiled = regex.compile(rf"(.*\.)?({pattern})$")
            for layer in layers:
                if layer not in found and compiled.match(layer, timeout=SECONDS / len(layers) / len(patterns)):
                    found[layer] = value
    except (regex.error, TimeoutError, RecursionError, OverflowError) as error:
        raise UserError(f"its pattern {pattern!r:.80} cannot be matched ({reason(error)})") from error
    return found


def _lacking(place: nn.Module, settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> bool:
    """Whether the network has layers of the names that were adapted, for which there are no weights."""
    targets = settings.get("target_modules")
    if not isinstance(targets, list) or any(settings.get(name) for name in ("exclude_modules", "layers_to_transform")):
        return False
    layers = {key.partition(".lora_")[0] for key in weights}
    return any(
        (name in targets or name.endswith(tuple(f".{target}" for target in targets))) and name not in layers
        for name, part in place.named_modules()
        if hasattr(part, "weight") and ".lora_" not in name and not name.endswith(".base_layer")
    )
