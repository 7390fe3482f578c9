"""The imports of a command that runs a network but trains none: half of what transformers imports is never used."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
NOT_NEEDED = ("scipy", "sklearn", "torch_distributed", "torch_flex_attn")
"""What transformers imports where it is there: for losses, generation, several processes, an attention not ours."""


def import_networks() -> None:
    """Import torch and transformers' networks, without torch's compiler, SymPy, SciPy and scikit-learn.

    transformers marks some functions for the compiler, and that alone imports it, which takes longer than everything
    else together. A stand-in that leaves functions unmarked takes its place meanwhile; whatever asks for the compiler
    afterwards gets it.
    """
    if "transformers" in sys.modules or COMPILER in sys.modules:
        return
    with _no_collection():
        import torch
        from transformers import utils
        from transformers.utils import import_utils

        checks = [name for what in NOT_NEEDED if hasattr(utils, name := f"is_{what}_available")]
        real = [(module, {name: getattr(module, name) for name in checks}) for module in (utils, import_utils)]
        sys.modules[COMPILER] = torch.__dict__["_dynamo"] = _Unmarked(COMPILER)
        for module, _ in real:
            vars(module).update(dict.fromkeys(checks, lambda: False))
        try:
            with suppress(ImportError, AttributeError, NameError):  # a version that needs more gets it when it is used
                import transformers.modeling_utils  # noqa: F401
        finally:
            for module, found in real:
                vars(module).update(found)
            del sys.modules[COMPILER], torch.__dict__["_dynamo"]


class _Unmarked(ModuleType):
    """Stands in for the compiler: its marks return functions as they are."""

    @staticmethod
    def allow_in_graph(function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    assume_constant_result = allow_in_graph

    @staticmethod
    def disable(function: Callable[..., Any] | None = None, *options: Any, **named: Any) -> Callable[..., Any]:
        return function or _Unmarked.allow_in_graph


@contextmanager
def _no_collection() -> Iterator[None]:
    """A context in which no garbage is looked for: modules make many objects, and none of them is garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
