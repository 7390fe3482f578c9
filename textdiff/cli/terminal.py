"""What a command prints, and where."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from textdiff.samplers import Watch


def write(text: str) -> int:
    """Print to standard output."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        # What is left in the buffer must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
    return 0


def report_progress(stage: str) -> None:
    """Tell what is done next, if somebody is watching."""
    if sys.stderr.isatty():
        print(f"textdiff: {stage}", file=sys.stderr)


@contextmanager
def progress() -> Iterator[Callable[[str, int], Watch]]:
    """A bar on standard error, if that is a terminal; it is gone when the answer comes.

    Yields:
        Begins a stage of so many slots; what it returns is called with the slots that each step fills.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("reading the model", total=None)

        def stage(description: str, slots: int) -> Watch:
            progress.reset(task, description=description, total=slots)

            def watch(tokens: Tensor, revealed: Tensor) -> None:
                progress.advance(task, int(revealed.sum()))

            return watch

        yield stage
