"""The parts of a network that fully sharded training gathers and releases one by one."""

from __future__ import annotations

from typing import final
from weakref import WeakSet

from torch import nn


@final
class RepeatedLayers:
    """Wraps each layer of a network, for `FSDPStrategy(auto_wrap_policy=)`, whatever its architecture.

    Layers are the items of an `nn.ModuleList`: all networks here keep their layers, and nothing else, in one. The rest,
    embeddings and head, is one further part. Torch asks about a module before it asks about its children.
    """

    def __init__(self) -> None:
        self._layers: WeakSet[nn.Module] = WeakSet()

    def __call__(self, module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
        """Whether to descend into a module (`recurse`), or else whether to wrap it."""
        if isinstance(module, nn.ModuleList):
            self._layers.update(module)
        return recurse or module in self._layers
