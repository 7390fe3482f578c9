"""Cases in processes of their own: forked from one that has imported everything, with limits and a clock."""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from tests.helpers.campaign.case import EXECUTED, Case, Outcome, Result, Silent, judge
from textdiff.errors import UserError

GIGABYTES = 3
"""Of address space beyond the parent's: more is refused, so that a case does not take the machine down."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGPIPE)


def run_case(kind: str, index: int, case: Case, parent: Path) -> Outcome:
    """Carry a case out in a child process, and judge what became of it; nothing is left behind in `parent`.

    What is too slow is tried twice: other processes may have slowed it down.
    """
    for attempt in range(2):
        folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            (folder / "here").mkdir()
            result = _run(case, folder)
            try:
                outcome, why = judge(case, result)
            except Exception as error:
                outcome, why = "silent", f"the answer cannot be read: {error!r:.300}"
        finally:
            _remove(folder)
        if attempt or outcome not in ("hang", "slow refusal"):
            break
    return Outcome(kind, index, case.what, outcome, why, result.cpu, result.memory)


def _remove(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):
                path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _run(case: Case, folder: Path) -> Result:
    sys.stdout.flush(), sys.stderr.flush()
    pid = os.fork()
    if not pid:
        _child(case, folder)
    handle = os.pidfd_open(pid)
    try:
        if case.drive is not None:
            case.drive(pid)
        hung = not select.select([handle], [], [], case.most_seconds)[0]
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # workers as well
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(handle)
    report: dict[str, Any] = {"kind": "", "error": "", "cpu": 0.0, "memory": 0.0, "executed": False}
    with suppress(OSError, ValueError):
        report |= json.loads((folder / "report").read_text())
    out, err = (
        (folder / name).read_bytes().decode(errors="replace") if (folder / name).exists() else ""
        for name in ("out", "err")
    )
    report["executed"] |= any((folder / "here").rglob(EXECUTED))
    return Result(os.waitstatus_to_exitcode(status), out, err, hung=hung, folder=folder / "here", **report)


def _child(case: Case, folder: Path) -> NoReturn:
    """Carry the case out, and leave a report beside its folder."""
    status: object = 1
    report: dict[str, Any] = {"kind": "traceback", "error": "the case could not be prepared"}
    try:
        os.setpgid(0, 0)
        for number in SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        os.chdir(folder / "here")
        os.environ.pop(EXECUTED, None)
        case.prepare()
        _open_streams(case, folder)
        space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (space + GIGABYTES * 2**30,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before, started = _megabytes("VmRSS"), _processor()
        status, report["kind"], report["error"] = _outcome(case)
        report |= {"cpu": _processor() - started, "memory": _megabytes("VmHWM") - before}
    except BaseException as error:
        report["error"] += "".join(traceback.format_exception(error)[-3:])
    finally:
        with suppress(BaseException):
            report["executed"] = EXECUTED in os.environ
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            (folder / "report").write_text(json.dumps(report))
        os._exit(status if isinstance(status, int) and 0 <= status < 256 else 1)


def _outcome(case: Case) -> tuple[object, str, str]:
    """The status of the case, its class, and what it raised."""
    try:
        try:
            status = case.run()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError, AttributeError):
                    stream.flush()
        return status or 0, "done", ""
    except Silent as error:
        return 0, "silent", str(error)
    except (UserError, TypeError) as error:
        # A TypeError of our own has no deeper cause; one out of a library's depths says nothing about an argument.
        if isinstance(error, TypeError) and not _ours(error):
            return 1, "traceback", "".join(traceback.format_exception(error)[-2:])
        return 1, "refused", str(error)
    except BaseException as error:
        return 1, "traceback", "".join(traceback.format_exception(error)[-3:])


def _ours(error: TypeError) -> bool:
    """Whether a `TypeError` was raised on purpose: by a `raise` of this package, or by the signature of a call."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    on_purpose = "textdiff" in last.filename and "raise " in (last.line or "")
    return on_purpose or bool(re.search(r"keyword argument|positional argument|takes .* arguments? \(", str(error)))


def _processor() -> float:
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def _megabytes(name: str) -> float:
    """A figure of this process in /proc, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1000


def _open_streams(case: Case, folder: Path) -> None:
    """Make the case's streams 0, 1 and 2, and Python's files on them, as they are when an interpreter starts."""
    defaults = {0: os.devnull, 1: str(folder / "out"), 2: str(folder / "err")}
    for number, default in defaults.items():
        name = case.streams.get(number, default)
        with suppress(OSError):
            os.close(number)
        if name is not None:
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY
            made = os.O_CREAT if name == default and number else 0
            opened = _broken_pipe() if name == "|" else os.open(name, flags | made, 0o600)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    for number, stream in enumerate(("stdin", "stdout", "stderr")):
        closed = number in case.streams and case.streams[number] is None
        mode = "r" if number == 0 else "w"
        options: dict[str, Any] = {"encoding": "utf-8", "closefd": False}
        setattr(sys, stream, None if closed else open(number, mode, **options))  # noqa: SIM115
        setattr(sys, f"__{stream}__", getattr(sys, stream))
    for logger in (logging.root, *map(logging.getLogger, logging.root.manager.loggerDict)):
        for handler in logger.handlers:  # made when the parent imported everything; a command makes them itself
            if type(handler) is logging.StreamHandler:
                handler.stream = _StandardError()


class _StandardError:
    """Whatever `sys.stderr` is at the moment."""

    def write(self, text: str) -> None:
        if sys.stderr is not None:
            sys.stderr.write(text)

    def flush(self) -> None:
        if sys.stderr is not None:
            sys.stderr.flush()


def _broken_pipe() -> int:
    """The end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing
