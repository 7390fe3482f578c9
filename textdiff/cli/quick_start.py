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
        import transformers.utils as checks

        real = {name: getattr(checks, name) for what in NOT_NEEDED if hasattr(checks, name := f"is_{what}_available")}
        sys.modules[COMPILER] = torch.__dict__["_dynamo"] = _Unmarked(COMPILER)
        vars(checks).update(dict.fromkeys(real, lambda: False))
        try:
            with suppress(ImportError, AttributeError, NameError):  # a version that asks for more gets it when it is used
                import transformers.modeling_utils  # noqa: F401
        finally:
            vars(checks).update(real)
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
