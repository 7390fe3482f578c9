"""Low-rank adapters (LoRA, arXiv:2106.09685), by peft: a few hundred kB that specialise a network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import nn
from transformers import PreTrainedModel

from textdiff.errors import UserError, reason
from textdiff.files.fields import SHARE, Field, check_fields, number, whole

_FIELDS = {
    "rank": Field(whole().fits, "and a low-rank adapter has at least rank 1"),
    "alpha": number(lambda value: True, "a number").optional(),
    "dropout": SHARE,
    "targets": Field(
        lambda value: isinstance(value, str | Sequence) and all(isinstance(name, str) for name in value),
        "expected names of linear layers",
    ).optional(),
}


@final
@dataclass(frozen=True)
class LoRA:
    """Learn W + (alpha / rank) B A in place of W; B starts at zero, so the network starts as it was.

    Args:
        rank: rows of A, columns of B.
        alpha: scale of the product; None: twice the rank.
        dropout: on the input of A, in training.
        targets: names of the linear layers, or one name; None: all that the network lists as `adaptable`.

    Raises:
        UserError: on `attach`, if the network has no such layer.
    """

    rank: int = 4
    alpha: float | None = None
    dropout: float = 0.0
    targets: Sequence[str] | str | None = None

    def attach(self, network: PreTrainedModel, name: str = "default") -> None:
        """Add such an adapter to a network, in place, and freeze all other weights.

        Raises:
            UserError: a rank below 1, or no layer of these names.
        """
        from peft import LoraConfig, inject_adapter_in_model

        check_fields(vars(self), _FIELDS)
        adaptable: Sequence[str] = network.adaptable  # type: ignore[assignment]
        named = adaptable if self.targets is None else self.targets
        targets = [named] if isinstance(named, str) else list(named)
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
            parameter.requires_grad_(is_of_adapter(key, name))
        adapter_configs(network)[name] = config


def use_adapter(network: nn.Module, name: str | None = "default") -> None:
    """Switch to the adapter of that name; None: to the network without adapters.

    Raises:
        UserError: there is none of that name.
    """
    if name is not None and name not in adapter_configs(network):
        known = ", ".join(adapter_configs(network)) or "none"
        raise UserError(f"the network has no adapter {name!r}, only {known}: load it first with load_adapter")
    for layer in _layers(network):
        layer.enable_adapters(name is not None)
        if name is not None:
            layer.set_adapter(name)


def merge_adapter(network: PreTrainedModel) -> None:
    """Add the adapter that is in use to the weights, in place: a plain network without adapters is left.

    Raises:
        UserError: the adapter adds biases to layers that have none, or changes an embedding that the head shares.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in list(network.modules()):
        for key, layer in list(module.named_children()):
            if isinstance(layer, BaseTunerLayer):
                head = network.get_output_embeddings()
                if layer is head and network.config.tie_word_embeddings:
                    plain = layer.get_base_layer()  # the update of the head is not one of the embedding
                    plain.weight = nn.Parameter(plain.weight.detach().clone())
                    network.config.tie_word_embeddings = False
                if layer is not head and getattr(head, "weight", None) is layer.get_base_layer().weight:
                    raise UserError(f"the adapter of {key!r} cannot be merged: the head has the same weights; keep it")
                try:
                    layer.merge()
                except RuntimeError as error:
                    raise UserError(
                        f"the adapter of {key!r} cannot be merged ({reason(error)}): keep it as one"
                    ) from error
                setattr(module, key, layer.get_base_layer())
    adapter_configs(network).clear()


def is_of_adapter(key: str, name: str) -> bool:
    """Whether the parameter `key` of a network belongs to its adapter `name`."""
    return re.search(rf"\.lora_\w+\.{re.escape(name)}(\.|$)", key) is not None


def home_of(network: nn.Module, name: str) -> nn.Module:
    """The part of a network that an adapter was made for: the network, or the published model within it."""
    return next(part for part in network.modules() if name in getattr(part, "peft_config", ()))


def _layers(network: nn.Module) -> list[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in network.modules() if isinstance(module, BaseTunerLayer)]


def adapter_configs(network: nn.Module) -> dict[str, Any]:
    """The adapters that a network has, by name."""
    if not hasattr(network, "adapters"):
        network.adapters = {}  # type: ignore[assignment]
    return network.adapters  # type: ignore[return-value]
