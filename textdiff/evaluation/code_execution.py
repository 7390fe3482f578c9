"""Running programs that a model wrote: limited in time, memory, files and network. It is no sandbox.

The operating system limits what a program's process may do, `unshare` gives it name spaces of its own for network and
processes where it can, and the interpreter has no sockets. That stops endless loops, greed and accidents. It does not
stop malice: the process may read, empty and delete whatever its user may, claim to have passed and, as root or where
there are no name spaces, start others. Run code of models that you do not trust in a container.
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
"""Exit status of a program that came to its end; one that calls `exit` has not."""

# The program comes by standard input, so that it cannot be kept waiting there. Limits first; sockets last.
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
    """Whether a Python program comes to its end without an error, in a process of its own.

    The process is an isolated interpreter (`python -I`) with an empty environment in an empty folder that is deleted
    afterwards. It may not put anything into files or open sockets; nothing that it prints is kept. Processes that it
    starts, which only root may, end with it where there are name spaces for them.

    Args:
        program: its source.
        seconds: of processor time, at most; three times as much may pass on the wall.
        megabytes: of memory, at most.

    Raises:
        UserError: this is no Unix system.
    """
    if os.name != "posix":
        raise UserError("run_code limits what a program may do by means that only Unix systems have: leave it out here")
    python = [sys.executable, "-I", "-c", _PRELUDE, str(seconds), str(megabytes * 2**20), str(PASSED)]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*_apart(), *python],
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
def _apart() -> tuple[str, ...]:
    """The beginning of a command that runs with no network and no processes but its own, which all end with it.

    Empty where the system has no such name spaces.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    command = (unshare, "--map-root-user", "--net", "--pid", "--fork", "--kill-child")
    tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    return command if tried.returncode == 0 else ()
