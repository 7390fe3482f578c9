"""Calls that run a compiled network as it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def eager(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator for what calls a network with another length each time: compiling for each would not end.

    Where nothing has imported torch's compiler nothing is compiled, and it is not imported: that takes a second.
    """

    @wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> R:
        if "torch._dynamo" not in sys.modules:
            return function(*arguments, **options)
        with torch.compiler.set_stance("force_eager"):
            return function(*arguments, **options)

    return run
