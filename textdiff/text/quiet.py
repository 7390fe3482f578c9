"""Silence of transformers and peft: what matters is reported by textdiff, in one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import transformers

_lock, _inside, _restored = Lock(), 0, ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """A context in which transformers and peft show no progress bars, warnings or messages.

    Contexts may be nested, and entered in several threads: the last to leave brings everything back.
    """
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            _silence(_restored)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _restored.close()


def _silence(restored: ExitStack) -> None:
    restored.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    restored.callback(transformers.logging.set_verbosity, transformers.logging.get_verbosity())
    transformers.logging.set_verbosity(logging.CRITICAL)
    if transformers.logging.is_progress_bar_enabled():
        restored.callback(transformers.logging.enable_progress_bar)
        transformers.logging.disable_progress_bar()
