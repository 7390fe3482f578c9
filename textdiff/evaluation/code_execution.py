"""Execution of programs that a model wrote, with limits of time, memory, files and network. It is no sandbox.

The operating system limits what a program's process may do, `unshare` gives it namespaces of its own for network and
processes if it can, and the interpreter has no sockets. That stops endless loops, excessive memory and accidents. It
does not stop malice: the process may read, empty and delete whatever its user may, claim to have passed and, as root or
without namespaces, start other processes. Run code of models that you do not trust in a container.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import cache

from textdiff.errors import UserError

PASSED = 87
"""Exit status of a program that ran to its end; a program that calls `exit` has another one."""

# The program arrives on standard input, so that it cannot wait for input there. Limits first; sockets last.
_PRELUDE = """\
import os, resource, sys
program, (cpu, memory, passed) = sys.stdin.read(), map(int, sys.argv[1:])
limits = {"CPU": cpu, "AS": memory, "DATA": memory, "FSIZE": 0, "CORE": 0, "NOFILE": 32, "NPROC": 0}
for name, most in limits.items():
    resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
sys.modules.update(dict.fromkeys(("socket", "_socket"), None))
sys.argv = ["program"]
exec(compile(program, "program", "exec"), {"__name__": "__main__"})
os._exit(passed)
"""


def passes(program: str, seconds: int = 10, megabytes: int = 1024) -> bool:
    """Whether a Python program runs to its end without an error, in a process of its own.

    The process is an isolated interpreter (`python -I`) with an empty environment in an empty folder that is deleted
    afterwards. It may not write to files or open sockets, and its output is discarded. Processes that it starts, which
    only root may, end with it if there are namespaces for them.

    Args:
        program: its source.
        seconds: of processor time, at most; the limit of wall time is three times as long.
        megabytes: of memory, at most.

    Raises:
        UserError: this is no Unix system.
    """
    if os.name != "posix":
        raise UserError("run_code limits what a program may do by means that only Unix systems have: leave it out here")
    python = [sys.executable, "-I", "-c", _PRELUDE, str(seconds), str(megabytes * 2**20), str(PASSED)]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*_isolation(), *python],
            cwd=folder,
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.communicate(program.encode(errors="surrogatepass"), timeout=3 * seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode == PASSED


@cache
def _isolation() -> tuple[str, ...]:
    """Prefix of a command that isolates it from the network and from other processes; its own end with it.

    Empty if the system has no such namespaces.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    command = (unshare, "--map-root-user", "--net", "--pid", "--fork", "--kill-child")
    tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    return command if tried.returncode == 0 else ()
