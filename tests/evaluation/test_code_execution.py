"""Programs run to their end or fail within their limits, and leave nothing behind."""

import os
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from textdiff.errors import UserError
from textdiff.evaluation import code_execution as execution
from textdiff.evaluation.code_execution import passes


def test_a_right_program_passes() -> None:
    assert passes("import math, sys\nassert math.gcd(4, 6) == 2 and sys.stdin.read() == ''\nprint('x' * 10**6)\n")


WRONG = {
    "a failed test": "assert 1 == 2",
    "no Python": "def f(:",
    "an error": "1 / 0",
    "an early end": "import sys\nsys.exit(0)",
    "an early end, hard": "import os\nos._exit(0)",
    "too much memory": "x = bytearray(10**10)",
    "memory bit by bit": "x = []\nwhile True: x.append(bytearray(10**7))",
    "a crash": "import ctypes\nctypes.string_at(0)",
    "a file": "open('here', 'w').write('x' * 10)\nassert open('here').read()",
    "a network library": "import urllib.request",
    "no environment": "import os\nassert os.environ.get('HOME')",
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_program_fails(kind: str) -> None:
    assert not passes(WRONG[kind], megabytes=256)


def test_an_endless_loop_is_stopped() -> None:
    assert not passes("while True: pass", seconds=1)


def test_a_sleeping_program_is_stopped() -> None:
    started = time.monotonic()
    assert not passes("import time\ntime.sleep(1000)", seconds=1) and time.monotonic() - started < 500


@pytest.mark.parametrize("unshared", [True, False])
def test_no_connection_is_made(unshared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not unshared:
        monkeypatch.setattr(execution, "_isolation", lambda: ())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        call = f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
        assert not passes(call)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.skipif(not execution._isolation(), reason="this system has no network namespaces")
def test_there_is_no_network_even_with_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_PRELUDE", execution._PRELUDE.replace('("socket", "_socket")', "()"))
    assert passes("import socket")
    with socket.create_server(("127.0.0.1", 0)) as server:
        call = f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
        assert not passes(call)
        monkeypatch.setattr(execution, "_isolation", lambda: ())
        assert passes(call)


@pytest.mark.skipif(not execution._isolation(), reason="this system has no process namespaces")
@pytest.mark.parametrize("seconds", [1, 10])
def test_no_process_outlives_the_program(seconds: int) -> None:
    """A child in a session of its own would hold its end of the connection; the limits alone do not bind root."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(60)
        program = f"import os, time\nif os.fork() == 0:\n    os.setsid()\ntime.sleep({1000 if seconds == 1 else 0})"
        program += "\nif os.getpid() != 1: time.sleep(1000)"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(execution.subprocess, "Popen", partial(subprocess.Popen, pass_fds=[theirs.fileno()]))
            passes(program, seconds=seconds)
        theirs.close()
        assert ours.recv(1) == b"", "no process holds the other end"


def test_the_working_folder_and_its_modules_are_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert passes("import os\nassert os.listdir() == []") and not passes("import mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py"]


def test_other_systems_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.name == "posix" and sys.executable
    monkeypatch.setattr(os, "name", "nt")
    with pytest.raises(UserError, match="only Unix systems"):
        passes("")
