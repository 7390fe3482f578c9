"""Printing to the terminal: results to standard output, progress to standard error."""

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
        # Or Python would try to write the rest of the buffer at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
    return 0


def report_progress(stage: str) -> None:
    """Print what is done next, if standard error is a terminal."""
    if sys.stderr.isatty():
        print(f"textdiff: {stage}", file=sys.stderr)


@contextmanager
def progress() -> Iterator[Callable[[str, int], Watch]]:
    """A transient progress bar on standard error, if that is a terminal.

    Yields:
        A function that begins a stage of so many slots, and returns the callback for the slots that each step fills.
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
