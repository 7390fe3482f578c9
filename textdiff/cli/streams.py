"""The streams of a command, some of which may be closed, full or unread, and the size of its terminal."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from textdiff.errors import one_line

NARROWEST, WIDEST = 40, 1000
"""Columns of a terminal that are believed; other widths are moved to the nearest of these."""


def settle() -> None:
    """Make the process safe to work in: no closed streams, a believable width, no character that stops output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file to be opened must not become a standard stream
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for name, least, most in (("COLUMNS", NARROWEST, WIDEST), ("LINES", 5, WIDEST)):
        if (given := os.environ.get(name)) is not None and not _is_between(given, least, most):
            del os.environ[name]
            if given.isdecimal() and int(given[:9]) > 0:
                os.environ[name] = str(min(most, max(least, int(given[:9]))))
    columns = shutil.get_terminal_size().columns
    if not NARROWEST <= columns <= WIDEST:
        os.environ["COLUMNS"] = str(min(WIDEST, max(NARROWEST, columns)))


@contextmanager
def wide_tables(columns: int = 120) -> Iterator[None]:
    """A context in which tables that others print into a file or a pipe have room, or they would cut what they show."""
    before = os.environ.get("COLUMNS")
    if sys.stdout is not None and not sys.stdout.isatty():
        os.environ["COLUMNS"] = str(max(columns, shutil.get_terminal_size().columns))
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        if before is not None:
            os.environ["COLUMNS"] = before


def _is_between(given: str, least: int, most: int) -> bool:
    return given.isascii() and given.isdecimal() and len(given) < 9 and least <= int(given) <= most


def check_output() -> None:
    """Raise an `OSError` if nothing can be written to standard output: before the work, not after it."""
    if sys.stdout is None:
        raise OSError("standard output is closed: give it a place, such as > /dev/null")
    with suppress(io.UnsupportedOperation, ValueError, AttributeError):  # no file, as in a notebook
        number = sys.stdout.fileno()
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError("standard output is open for reading only: give it a place to write to")
        try:
            os.write(number, b"")
        except OSError as error:
            raise _of_output(error) from error


def flush_output() -> None:
    """Write what is left of standard output.

    Raises:
        OSError: it cannot be written. Then it is dropped, or the interpreter would try again at its exit.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise _of_output(error) from error


def _of_output(error: OSError) -> OSError:
    """The error with the name of the stream; of the same class, as the number decides."""
    return OSError(error.errno, error.strerror, "standard output")


class Messages:
    """Standard error of a command, on which an error of the user is the only line.

    What libraries write there is held back until it is released. Progress passes: whatever redraws a line of a
    terminal. What cannot be written is dropped, for a message that nobody can read is no reason to stop.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._held: list[str] | None = []
        self._over = False

    def write(self, text: str) -> int:
        """Hold the text back, or write it."""
        if self._over and sys.stderr is not None and not (isinstance(sys.stderr, Messages) and sys.stderr._over):
            return sys.stderr.write(text)  # a logger that the command made, in a process that goes on
        if self._held is None or "\r" in text or "\x1b" in text:
            self.say(text)
        else:
            self._held.append(text)
        return len(text)

    def say(self, text: str) -> None:
        """Write at once."""
        if self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()

    def release(self) -> None:
        """Write what was held back, and hold nothing back from now on."""
        held, self._held = self._held, None
        if held:
            self.say("".join(held))

    def end(self) -> None:
        """Release, and hand what comes later to whatever is standard error then."""
        self.release()
        self._over = True

    def drop(self) -> None:
        """Forget what was held back."""
        if self._held is not None:
            self._held = []

    def flush(self) -> None:
        """All that may be seen has been written."""

    def writelines(self, lines: Any) -> None:
        """Write each of the lines."""
        self.write("".join(lines))

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        if self._stream is None:
            raise AttributeError(f"standard error is closed, and has no {name}")
        return getattr(self._stream, name)


@contextmanager
def messages() -> Iterator[Messages]:
    """A context in which standard error is a `Messages`, released at the end."""
    before = sys.stderr
    found = Messages(before)
    sys.stderr = cast(TextIO, found)
    try:
        yield found
    finally:
        found.end()
        sys.stderr = before


def say(text: str) -> None:
    """A line of our own on standard error, which is not held back."""
    line = f"textdiff: {one_line(text)}\n"
    if isinstance(sys.stderr, Messages):
        sys.stderr.say(line)
    elif sys.stderr is not None:
        sys.stderr.write(line)


def release_messages() -> None:
    """Nothing that is written to standard error is held back any longer: the options were right, and work begins."""
    if isinstance(sys.stderr, Messages):
        sys.stderr.release()
