"""The parser of a command's options, and types for their values."""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import NoReturn, final

from textdiff.errors import UserError


@final
class Parser(argparse.ArgumentParser):
    """A parser of options that raises `UserError`, and suggests a known option for a misspelt one."""

    def __init__(self, command: str, purpose: str, notes: str | None = None) -> None:
        super().__init__(
            command, description=purpose, epilog=notes, formatter_class=page, allow_abbrev=False, add_help=False
        )
        self.add_argument("-h", "--help", action="store_true", help="show this page")

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse the arguments; if they ask for help, that is all that is parsed.

        Raises:
            UserError: an unknown option, a value that does not fit, or too many words.
        """
        if {"-h", "--help"} & set(arguments):
            return argparse.Namespace(help=True)
        if odd := [word for word in arguments if re.fullmatch(r"--.*=--", word, re.DOTALL)]:
            raise UserError(f"{odd[0]!r}: expected a value after the =")  # argparse takes it for none at all
        options, unknown = self.parse_known_args(arguments)
        if not unknown:
            return options
        known = [name for action in self._actions for name in action.option_strings]
        for word in unknown:
            if word.startswith("-") and word != "--":
                name = word.partition("=")[0]
                raise UserError(f"there is no option {name!r}: {nearest(name, known, 'there are ')}")
        raise UserError(f"unexpected {unknown[0]!r}: put the whole text in one pair of quotes")

    def error(self, message: str) -> NoReturn:
        """Raise the error of argparse as a `UserError`."""
        raise UserError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")


def page(prog: str) -> argparse.HelpFormatter:
    """A formatter that keeps line breaks, for at most 100 columns."""
    return argparse.RawDescriptionHelpFormatter(prog, width=min(100, shutil.get_terminal_size().columns))


def nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    """A suggestion of the known word nearest to a misspelt one; without one, `otherwise` and all known words."""
    names = list(known)
    close = get_close_matches(word, names, 1)
    return f"did you mean {close[0]!r}?" if close else otherwise + ", ".join(names)


def unicode(word: str) -> str:
    """A word of a command line as UTF-8, whatever the locale takes it for; not for names of files, which it decides."""
    with suppress(UnicodeError):
        return os.fsencode(word).decode()
    return word


MOST = 2**16
"""Of what takes time or memory for each, such as gaps, texts and draws."""


def whole(least: int, most: int = MOST) -> Callable[[str], int]:
    """The type of whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        digits = text.lstrip("0") or "0"
        if not re.fullmatch("[0-9]+", text) or (len(digits) <= 20 and int(digits) < least):
            raise argparse.ArgumentTypeError(f"expected a whole number, {least} or more, got {text!r}")
        if len(digits) > 20 or int(digits) > most:
            raise argparse.ArgumentTypeError(f"expected a whole number, at most {most}, got {text!r}")
        return int(digits)

    return parse


SEED = whole(0, 2**64 - 1)
"""The type of seeds."""


def number(above: float, most: float, closed: bool = False) -> Callable[[str], float]:
    """The type of finite numbers above `above` (or equal to it, if `closed`) and at most `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (above < value <= most or (closed and value == above)) or not math.isfinite(value):
            least = "from" if closed else "above"
            limit = "" if most == math.inf else f", at most {most:g}"
            raise argparse.ArgumentTypeError(f"expected a number {least} {above:g}{limit}, got {text!r}")
        return value

    return parse


def paced(word: str) -> tuple[str, int | None]:
    """Parse the name of a policy and its steps, such as `strided:8` or `threshold`.

    Raises:
        UserError: there is no such policy, or it takes no such number of steps.
    """
    from textdiff.samplers import by_name

    name, _, steps = word.strip().partition(":")
    if steps and not steps.isdecimal():
        raise UserError(f"policy {word!r} has no number of steps behind its colon: write it like strided:8")
    by_name(name, int(steps) if steps else None)
    return name, int(steps) if steps else None
