"""Commands as processes of their own, each with a time after which it is killed with all that it has started."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.helpers.tree import ROOT

SECONDS = 120
"""That a command may take, unless its test says otherwise."""


def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """`textdiff` as a process, in a process group of its own."""
    command = [sys.executable, "-m", "textdiff", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, preexec_fn=hear_signals)


def start_fit(config: Path, *more: str) -> subprocess.Popen[bytes]:
    """`textdiff fit --config CONFIG ...` as a process."""
    return start(["fit", "--config", str(config), *more])


def hear_signals() -> None:
    """Let a new process end by signals that this one may ignore: those of tests that run in the background."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def kill(process: subprocess.Popen[Any]) -> None:
    """Kill a process that leads its group, and the group, whether or not the process itself has ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def status(process: subprocess.Popen[Any], seconds: float = SECONDS) -> int:
    """The exit status of a process that leads its group; nothing of the group is left.

    Raises:
        subprocess.TimeoutExpired: it has not ended in time.
    """
    try:
        return process.wait(timeout=seconds)
    finally:
        kill(process)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[Any], seconds: float = SECONDS) -> None:
    """Wait for something that a process does; the test fails, and the group is killed, if it ends before or is late."""
    end = time.monotonic() + seconds
    while not condition():
        ended, late = process.poll() is not None, time.monotonic() > end
        if ended or late:
            kill(process)
        assert not ended, "the run ended too early"
        assert not late, f"not seen in {seconds} s"
        time.sleep(0.001)


def captured(command: Sequence[str], seconds: float = SECONDS, **options: Any) -> subprocess.CompletedProcess[str]:
    """Like `subprocess.run`, whose time limit waits for the processes that its command has started.

    Raises:
        subprocess.TimeoutExpired: it has not ended in time.
    """
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    given = streams.pop("input", None)
    stdin = subprocess.DEVNULL if given is None else subprocess.PIPE
    process = subprocess.Popen(command, stdin=stdin, text=True, start_new_session=True, **streams)
    try:
        out, err = process.communicate(given, timeout=seconds)
    finally:
        kill(process)
    return subprocess.CompletedProcess(command, process.returncode, out, err)
