"""Which parts of a network fully sharded training gathers and lets go one by one."""

from __future__ import annotations

from typing import final
from weakref import WeakSet

from torch import nn


@final
class RepeatedLayers:
    """Each layer of a stack, for `FSDPStrategy(auto_wrap_policy=)`: ours, and those of whichever backbone.

    A stack is an `nn.ModuleList`: all networks here keep their layers in one, and nothing else. What is left,
    embeddings and head, is a part of its own. Torch asks about a module before the modules in it.
    """

    def __init__(self) -> None:
        self._layers: WeakSet[nn.Module] = WeakSet()

    def __call__(self, module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
        """Whether to look into a module; or, if that was done, whether it is a part."""
        if isinstance(module, nn.ModuleList):
            self._layers.update(module)
        return recurse or module in self._layers
