"""Runs of `textdiff fit` and `textdiff predict` that are killed again and again, and what they leave behind.

A run is a fork of the test, which has imported everything, so that many kills take little time.
"""

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.helpers.processes import SECONDS
from tests.helpers.training import STATE
from textdiff.cli.lightning import run

LOCKED_AT_ONCE = 1.2
"""Seconds after which `textdiff.files.tidy` takes the file of a dead process for a leftover."""


def final_state(folder: Path) -> dict[str, Any]:
    """What `folder / "run" / "last.ckpt"` holds of `STATE`."""
    content = torch.load(folder / "run" / "last.ckpt", weights_only=True)
    return {name: content[name] for name in STATE}


def leftovers(folder: Path) -> list[str]:
    """Unfinished files anywhere in a folder."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith(".part")]


def run_forked(
    arguments: Sequence[str], prepare: Callable[[], None] = lambda: None, kill_after: float | None = None
) -> int | None:
    """Run a command in a fork of this process; returns its exit status, None if it was killed.

    Args:
        arguments: of the command.
        prepare: is called in the fork first, such as `kill_while_writing(...)`.
        kill_after: seconds until it is killed, if it has not ended before.

    Raises:
        TimeoutError: it has not ended in time, and nobody asked for a kill.
    """
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            prepare()
            status = run(list(arguments))
        finally:
            os._exit(status)
    os.setpgid(child, child)
    start = time.monotonic()
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() - start > (SECONDS if kill_after is None else kill_after):
            os.killpg(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)
            if kill_after is None:
                raise TimeoutError(f"{' '.join(arguments)}: no end after {SECONDS} s")
            break
        time.sleep(0.001)
    return os.waitstatus_to_exitcode(ended[1]) if os.WIFEXITED(ended[1]) else None


def kill_while_writing(number: int, size: int) -> Callable[[], None]:
    """Kill the process in the middle of a file that `torch.save` writes.

    Args:
        number: of the file, 0 is the first.
        size: bytes after which the system kills it.
    """

    def prepare() -> None:
        save, left = torch.save, [number]

        def dying(*arguments: Any, **options: Any) -> None:
            if left[0] == 0:
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            left[0] -= 1
            save(*arguments, **options)

        torch.save = dying

    return prepare


def kill_before_renaming(number: int) -> Callable[[], None]:
    """Kill the process when a file is written and not yet renamed; `number` 0 is the first file."""

    def prepare() -> None:
        sync, left = os.fsync, [number]

        def dying(place: int) -> None:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            sync(place)

        os.fsync = dying

    return prepare


def fit_through_kills(fit: Sequence[str], checkpoint: Path, while_saving: int, anywhere: int, seed: int = 0) -> int:
    """Run a fit to its end, killing it on its way and resuming it from its checkpoint; returns the kills that hit.

    Args:
        fit: arguments of the command.
        checkpoint: the file to resume from, once it is there.
        while_saving: kills in the middle of a save, or before its file is renamed.
        anywhere: kills at other moments.
        seed: of the moments.
    """
    rng = random.Random(seed)
    moments = ["saving"] * while_saving + ["anywhere"] * anywhere
    rng.shuffle(moments)
    hits = 0
    for moment in moments:
        again = ["--ckpt_path", str(checkpoint)] if checkpoint.exists() else []
        number = rng.randint(0, 1)
        if moment == "anywhere":
            status = run_forked([*fit, *again], kill_after=rng.uniform(0.2, 1.0))
        elif rng.random() < 0.5:
            status = run_forked([*fit, *again], kill_before_renaming(number + 3 * (not again)))
        else:
            status = run_forked([*fit, *again], kill_while_writing(number, rng.randint(1, 60_000)))
        assert status in (None, 0), f"the run ended with status {status}"
        hits += status is None
    time.sleep(LOCKED_AT_ONCE)
    again = ["--ckpt_path", str(checkpoint)] if checkpoint.exists() else []
    assert run_forked([*fit, *again]) == 0
    return hits


def predict_through_kills(predict: Sequence[str], kills: int, seed: int = 0) -> int:
    """Run a prediction to its end, killing it on its way, half of the times while it writes; returns the kills."""
    rng, hits = random.Random(seed), 0
    for kill in range(kills):
        if kill % 2:
            status = run_forked(predict, kill_before_renaming(rng.randint(0, 2)))
        else:
            status = run_forked(predict, kill_after=rng.uniform(0.1, 0.8))
        assert status in (None, 0), f"the run ended with status {status}"
        hits += status is None
    time.sleep(LOCKED_AT_ONCE)
    assert run_forked(predict) == 0
    return hits
