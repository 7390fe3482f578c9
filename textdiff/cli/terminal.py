"""Printing to the terminal: results to standard output, progress to standard error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from textdiff.cli.streams import flush_output, say

if TYPE_CHECKING:
    from torch import Tensor

    from textdiff.samplers import Watch


def write(text: str) -> int:
    """Print to standard output; returns the exit status of a command that is done."""
    sys.stdout.write(text)
    flush_output()
    return 0


def write_json(text: str) -> int:
    """`write` a JSON document and a line break, in escapes of JSON where the output takes ASCII alone."""
    if not (sys.stdout.encoding or "utf-8").lower().startswith("utf"):
        text = re.sub(r"[^\x00-\x7f]", lambda character: json.dumps(character[0])[1:-1], text)
    return write(f"{text}\n")


def report_progress(stage: str) -> None:
    """Print what is done next, if standard error is a terminal."""
    if sys.stderr.isatty():
        say(stage)


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
