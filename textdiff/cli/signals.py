"""Ctrl-C, SIGTERM and SIGHUP: they end a command in order, with a status that says so; a second one ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

STOPPING = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}

AGAIN = 1.0
"""Seconds after which a command that has not ended is asked again."""


class Stopped(SystemExit):
    """A signal asked the command to end; `code` is its exit status, 128 + the number of the signal.

    No subclass of `KeyboardInterrupt`: libraries catch that, and go on or exit with statuses of their own.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class _Signals:
    """What has come, and whether it waits; of the process, as signals are."""

    received: int | None = None
    waiting: bool = False
    in_charge: int | None = None  # id of the process whose command these are for


def received() -> int | None:
    """The number of the signal that asked this command to end, if one has come."""
    return _Signals.received


def in_words() -> str:
    """What the signal that was received did to the command."""
    return STOPPING[signal.Signals(_Signals.received or signal.SIGTERM)]


def are_handled() -> bool:
    """Whether this process is in a context of `stopping`."""
    return _Signals.in_charge == os.getpid()


def wait(waiting: bool) -> None:
    """Whether a signal that comes from now on raises nothing: whoever asks for this looks at `received`."""
    _Signals.waiting = waiting


def stop() -> NoReturn:
    """End the command because of the signal that was received."""
    raise Stopped(_Signals.received or signal.SIGTERM)


def handle(number: int, frame: FrameType | None = None) -> None:
    """The handler of each signal of `STOPPING`."""
    if _Signals.received is not None:
        os._exit(128 + number)
    _Signals.received = number
    for each in STOPPING:
        if signal.getsignal(each) is handle:
            signal.signal(each, signal.SIG_DFL)  # the next one ends the process even while it is in native code
    if not _Signals.waiting:
        signal.signal(signal.SIGALRM, _again)
        signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
        raise Stopped(number)


def _again(number: int, frame: FrameType | None) -> None:
    """Raise once more what some library has caught, as some do with whatever goes wrong in an import."""
    stop()


def rest() -> None:
    """Raise nothing more: the command has ended."""
    if _Signals.received is not None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _exit(number: int, frame: FrameType | None) -> None:
    """The handler while the interpreter ends, when exceptions are printed and then ignored."""
    os._exit(128 + number)


@contextmanager
def stopping(whole_process: bool = False) -> Iterator[None]:
    """A context in which the signals of `STOPPING` raise `Stopped`, if it is entered in the main thread.

    Signals that the process ignores (by `nohup`, or in the background of a script) stay ignored.

    Args:
        whole_process: nothing but the end of the process comes after the context.
    """
    _Signals.received, _Signals.waiting = None, False
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*STOPPING, signal.SIGALRM)}
    hook = sys.unraisablehook
    _Signals.in_charge = os.getpid()
    try:
        for number in STOPPING:
            if before[number] not in (None, signal.SIG_IGN):
                signal.signal(number, handle)
        sys.unraisablehook = _exit_if_stopped(hook)
        yield
    finally:
        _Signals.in_charge = None
        sys.unraisablehook = hook
        rest()
        for number, handler in before.items():
            if handler is not None:
                ends = whole_process and number in STOPPING and handler is not signal.SIG_IGN
                signal.signal(number, _exit if ends else handler)


def _exit_if_stopped(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """An `unraisablehook` that ends the process where a destructor or callback would have swallowed `Stopped`."""

    def exit_or(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Stopped):
            with suppress(OSError):
                os.write(2, f"textdiff: {in_words()}\n".encode())
            os._exit(128 + (_Signals.received or signal.SIGTERM))
        hook(unraisable)

    return exit_or


def _leave_to_parent() -> None:
    """In a forked worker: Ctrl-C, which reaches the whole group, is for the parent, and SIGTERM ends it."""
    if _Signals.in_charge is None:
        return
    _Signals.in_charge = None
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)


os.register_at_fork(after_in_child=_leave_to_parent)
