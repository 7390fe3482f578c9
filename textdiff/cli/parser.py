"""Options of a command, read with mistakes in one line."""

from __future__ import annotations

import argparse
import math
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import NoReturn, final

from textdiff.errors import UserError


@final
class Parser(argparse.ArgumentParser):
    """Options of a command; a mistake is a `UserError`, and near misses are recognised."""

    def __init__(self, command: str, purpose: str, notes: str | None = None) -> None:
        super().__init__(
            command, description=purpose, epilog=notes, formatter_class=page, allow_abbrev=False, add_help=False
        )
        self.add_argument("-h", "--help", action="store_true", help="show this page")

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse the arguments; where they ask for help, nothing else matters.

        Raises:
            UserError: an option that there is not, a value that does not fit, or too many words.
        """
        if {"-h", "--help"} & set(arguments):
            return argparse.Namespace(help=True)
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
        """Raise what argparse has to complain of."""
        raise UserError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")


def page(prog: str) -> argparse.HelpFormatter:
    """Lines as they were written, and none too long to read."""
    return argparse.RawDescriptionHelpFormatter(prog, width=min(100, shutil.get_terminal_size().columns))


def nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    names = list(known)
    close = get_close_matches(word, names, 1)
    return f"did you mean {close[0]!r}?" if close else otherwise + ", ".join(names)


def whole(least: int) -> Callable[[str], int]:
    """Reads a whole number, `least` or more, that fits in 63 bits."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,19}", text) or not least <= int(text) < 2**63:
            raise argparse.ArgumentTypeError(f"expected a whole number, {least} or more, got {text!r}")
        return int(text)

    return read


def number(above: float, most: float, closed: bool = False) -> Callable[[str], float]:
    """Reads a finite number above `above` (or equal to it, if `closed`), at most `most`."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (above < value <= most or (closed and value == above)) or not math.isfinite(value):
            least = "from" if closed else "above"
            limit = "" if most == math.inf else f", at most {most:g}"
            raise argparse.ArgumentTypeError(f"expected a number {least} {above:g}{limit}, got {text!r}")
        return value

    return read


def paced(word: str) -> tuple[str, int | None]:
    """A policy and its steps, written `strided:8` or `threshold`."""
    from textdiff.samplers import by_name

    name, _, steps = word.strip().partition(":")
    if steps and not steps.isdecimal():
        raise UserError(f"policy {word!r} has no number of steps behind its colon: write it like strided:8")
    by_name(name, int(steps) if steps else None)
    return name, int(steps) if steps else None
