"""The exceptions for mistakes that a user can correct, and text from anywhere as one short line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

MOST_CHARACTERS = 680
"""Of a message; with what the command line puts before it, a line takes at most 700."""


class UserError(ValueError):
    """A mistake in what a user gave (text, path, option): the message says what it was, what was expected and the fix.

    As a string it is one line, see `one_line`. The command line prints `plain` and exits with status 2; Python code may
    catch a `ValueError`.

    Args:
        message: in words that fit the shell, YAML and Python.
        python: how it goes on in Python, where there are more ways than the shell has words for.
    """

    def __init__(self, message: object = "", *, python: str = "") -> None:
        super().__init__(message)
        self.python = python

    @property
    def plain(self) -> str:
        """The message for those who do not write Python."""
        return one_line(str(self.args[0]))

    def __str__(self) -> str:
        return one_line(f"{self.args[0]}{self.python}")


class Impossible(UserError):
    """No text agrees with the evidence: its probability is 0."""


@contextmanager
def by_the_user(name: str) -> Iterator[None]:
    """A context in which a function that the user wrote is called: whatever it raises becomes one `UserError`.

    Args:
        name: of the function, in the message; the error that it raised is the cause.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # it may raise anything
        raise UserError(f"{name} failed: {type(error).__name__}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(":. ")


_LONG_VALUE = re.compile(r"'(?:[^'\\]|\\.){60,}'|\"(?:[^\"\\]|\\.){60,}\"|\S{60,}")


def one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """The text in one line of at most `most` characters that does nothing to a terminal.

    Lines are joined by blanks, and characters that cannot be printed are escaped. Of a long text first the values are
    shortened (what stands in quotes, or has no blanks), each in its middle, then the whole.
    """
    line = " ".join(part.strip() for part in _middle_cut(text, 40 * most).splitlines() if part.strip())
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    for room in (200, 60):
        if len(line) > most:
            line = _LONG_VALUE.sub(lambda value, room=room: _middle_cut(value[0], room), line)  # type: ignore[misc]
    return _middle_cut(line, most)


def _middle_cut(text: str, most: int) -> str:
    """At most so many characters, `...` in place of those in the middle."""
    if len(text) <= most:
        return text
    head = (most - 3 + 1) // 2
    return f"{text[:head]}...{text[len(text) - (most - 3 - head) :]}"
