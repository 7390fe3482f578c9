"""What the tests of the command line share."""

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

TEXT = "Lily lost her red ball. [gap:2-6] She was happy again."
Run = Callable[..., tuple[str, str]]


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def raiser(error: BaseException) -> Callable[..., None]:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    return fail
