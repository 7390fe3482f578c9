"""What went wrong, in one line, and the exit status that goes with it."""

from __future__ import annotations

import errno
import os
import traceback

from textdiff.cli import signals
from textdiff.cli.streams import Messages, flush_output, say
from textdiff.errors import UserError, one_line

TRACEBACK = "TEXTDIFF_TRACEBACK"
"""Set in the environment, it shows where an error came from, and what libraries wrote before."""


def report(error: BaseException, messages: Messages) -> int:
    """Write one line on standard error about what ended a command; returns the exit status."""
    signals.rest()
    if os.environ.get(TRACEBACK):
        messages.release()
        messages.say("".join(traceback.format_exception(error)))
    messages.drop()
    status = status_of(error)
    try:
        flush_output()
    except OSError as second:
        if status == 0:
            error, status = second, status_of(second)
    if status not in (0, BROKEN_PIPE) and (line := in_words(error)):
        say(line)
    return status


BROKEN_PIPE = 141
WRONG_NAME = {
    errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP,
    errno.ENOTEMPTY,
}  # fmt: skip
"""Errors of the system that come from the name of a file."""


def status_of(error: BaseException) -> int:
    """The exit status: 2 for a mistake of the user, a file included, 1 for what the machine or textdiff cannot do.

    130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP; 141 where nobody reads standard output any longer.
    """
    if (number := signals.received()) is not None:
        return 128 + number
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    named_wrongly = isinstance(error, OSError) and error.errno in WRONG_NAME
    return 2 if isinstance(error, UserError) or named_wrongly else 1


def in_words(error: BaseException) -> str:
    """One line about an error; empty if it has been reported."""
    if signals.received() is not None:
        return signals.in_words()
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, SystemExit):
        return "" if isinstance(error.code, int | None) else one_line(str(error.code))
    if isinstance(error, UserError):
        return error.plain
    if isinstance(error, OSError):
        return _of_the_system(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "not enough memory" in str(error):
        return "the memory is too small for this: ask for less at a time, or for a smaller model"
    if isinstance(error, RecursionError):
        return "something in the input is nested too deeply to be read"
    what = one_line(str(error), 400)
    return (
        f"a mistake in textdiff itself ({type(error).__name__}: {what}): {TRACEBACK}=1 in the environment shows where"
    )


def _of_the_system(error: OSError) -> str:
    """The file and what failed."""
    if error.strerror is None:
        return one_line(str(error)) or type(error).__name__
    names = [repr(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return f"{' -> '.join(names)}: {error.strerror}" if names else error.strerror
