"""Low-rank adapters (LoRA, arXiv:2106.09685), by peft: a few hundred kB that specialise a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import nn
from transformers import PreTrainedModel

from textdiff.errors import UserError

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What peft puts before the names of weights in its files."""


@final
@dataclass(frozen=True)
class LoRA:
    """Learn W + (alpha / rank) B A in place of W; B starts at zero, so the network starts as it was.

    Args:
        rank: rows of A, columns of B.
        alpha: scale of the product; None: twice the rank.
        dropout: on the input of A, in training.
        targets: names of the linear layers; None: all that the network lists as `adaptable`.

    Raises:
        UserError: on `attach`, if the network has no such layer.
    """

    rank: int = 4
    alpha: float | None = None
    dropout: float = 0.0
    targets: Sequence[str] | None = None

    def attach(self, network: PreTrainedModel, name: str = "default") -> None:
        """Add such an adapter to a network, in place, and freeze all other weights.

        Raises:
            UserError: a rank below 1, or no layer of these names.
        """
        from peft import LoraConfig, inject_adapter_in_model

        if self.rank < 1:
            raise UserError(f"rank is {self.rank}: a low-rank adapter has at least rank 1")
        adaptable: Sequence[str] = network.adaptable  # type: ignore[assignment]
        targets = list(adaptable if self.targets is None else self.targets)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=2 * self.rank if self.alpha is None else self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=targets,
        )
        try:
            inject_adapter_in_model(config, network, adapter_name=name)
        except ValueError as error:
            raise UserError(f"no layer of the network is called {' or '.join(targets)}: {error}") from error
        for key, parameter in network.named_parameters():
            parameter.requires_grad_(f".lora_A.{name}." in key or f".lora_B.{name}." in key)
        _configs(network)[name] = config


def use_adapter(network: nn.Module, name: str | None = "default") -> None:
    """Switch to the adapter of that name; None: to the network without adapters.

    Raises:
        UserError: there is none of that name.
    """
    if name is not None and name not in _configs(network):
        known = ", ".join(_configs(network)) or "none"
        raise UserError(f"the network has no adapter {name!r}, only {known}: load it first with load_adapter")
    for layer in _layers(network):
        layer.enable_adapters(name is not None)
        if name is not None:
            layer.set_adapter(name)


def save_adapter(network: nn.Module, folder: str | Path, base: str, name: str = "default") -> None:
    """Write an adapter in peft's own format: `adapter_config.json` and `adapter_model.safetensors`.

    Args:
        network: has the adapter.
        folder: to write to.
        base: folder or name of the checkpoint that it adapts, for `textdiff.load(folder)`.
        name: of the adapter.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    config = _configs(network)[name]
    config.base_model_name_or_path = base
    config.save_pretrained(str(folder))
    weights = get_peft_model_state_dict(network, adapter_name=name, save_embedding_layers=False)
    save_file({PREFIX + key: value.contiguous().cpu() for key, value in weights.items()}, Path(folder, ADAPTER_WEIGHTS))


def base_of(folder: str | Path) -> str:
    """The checkpoint that the adapter in a folder adapts.

    Raises:
        UserError: the folder's settings are damaged or name none.
    """
    try:
        content = json.loads(Path(folder, ADAPTER_CONFIG).read_text(encoding="utf-8"))
        base = content["base_model_name_or_path"]
        if content["peft_type"] != "LORA" or not isinstance(base, str):
            raise ValueError("no LoRA adapter of a named checkpoint")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{ADAPTER_CONFIG} in {str(folder)!r} is damaged ({error}): copy the adapter again") from error
    return base


def load_adapter(network: PreTrainedModel, folder: str | Path, name: str = "default") -> None:
    """Read an adapter from a folder into a network, in place, and switch to it; no code in the folder is run.

    Raises:
        UserError: the folder holds no adapter, or one of another network.
    """
    from peft import set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    base_of(folder)
    content = json.loads(Path(folder, ADAPTER_CONFIG).read_text(encoding="utf-8"))
    try:
        weights = load_file(Path(folder, ADAPTER_WEIGHTS))
        LoRA(content["r"], content["lora_alpha"], content["lora_dropout"], content["target_modules"]).attach(
            network, name
        )
        outcome = set_peft_model_state_dict(
            network, {key.removeprefix(PREFIX): value for key, value in weights.items()}, adapter_name=name
        )
    except (OSError, SafetensorError, KeyError, RuntimeError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"the adapter in {str(folder)!r} does not fit its network ({reason}): copy it again") from error
    mine = f".{name}."
    missing = [key for key in outcome.missing_keys if ".lora_" in key and mine in f"{key}."]  # type: ignore[attr-defined]
    if outcome.unexpected_keys or missing:  # type: ignore[attr-defined]
        raise UserError(f"the adapter in {str(folder)!r} is of another network: give the checkpoint that it names")
    use_adapter(network, name)


def merge_adapter(network: PreTrainedModel) -> None:
    """Add the adapter that is in use to the weights, in place: a plain network without adapters is left."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in list(network.modules()):
        for key, layer in list(module.named_children()):
            if isinstance(layer, BaseTunerLayer):
                if layer is network.get_output_embeddings() and network.config.tie_word_embeddings:
                    plain = layer.get_base_layer()  # the update of the head is not one of the embedding
                    plain.weight = nn.Parameter(plain.weight.detach().clone())
                    network.config.tie_word_embeddings = False
                layer.merge()
                setattr(module, key, layer.get_base_layer())
    _configs(network).clear()


def _layers(network: nn.Module) -> list[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in network.modules() if isinstance(module, BaseTunerLayer)]


def _configs(network: nn.Module) -> dict[str, Any]:
    """The adapters that a network has, by name."""
    if not hasattr(network, "adapters"):
        network.adapters = {}  # type: ignore[assignment]
    return network.adapters  # type: ignore[return-value]
