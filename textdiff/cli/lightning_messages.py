"""What Lightning and its parser print: fewer messages, and errors in one line."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile

HIDDEN_MESSAGES = ("Tip: ", "TPU available", "GPU available: False", "Seed set to")
"""Log messages without information for a user; they begin like this, apart from a few characters."""

LOGGERS = ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed")

HIDDEN_WARNINGS = (
    r"Checkpoint directory .* exists and is not empty",  # as it is when a run is resumed
    r".*does not have many workers which may be a bottleneck",  # preparing rows takes less time than a step
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",  # within Lightning
    r"You're using the WeightAveraging callback, but loading a checkpoint outside the 'fit' stage",  # as intended
    r"Mismatch dtype between input and weight",  # of a norm in mixed precision
)
"""Beginnings of warnings about what is intended."""


@contextmanager
def fewer_messages() -> Iterator[None]:
    """A context without `HIDDEN_MESSAGES` and `HIDDEN_WARNINGS`."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    with warnings.catch_warnings():
        for message in HIDDEN_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.addFilter(_is_informative)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(_is_informative)


def _is_informative(record: logging.LogRecord) -> bool:
    return not any(beginning in record.getMessage()[:60] for beginning in HIDDEN_MESSAGES)


CLASS_PROBLEM = "Problem with given class_path"
OTHER_TYPES = ("Expected a path", "Expected a <class 'NoneType'>")
"""Errors for a value that was not meant as a path or None, but tried as such."""


def in_one_line(message: str) -> str:
    """The part of a parser's many-line error that names the mistake, in one line.

    The parser lists an error for each type that a value may have, indented below the key. Of these, a problem with a
    class is followed into the class; types that cannot have been meant are left out.
    """
    lines = [line for line in message.splitlines() if line.strip()]
    key = [lines[0].strip()] if lines and lines[0].startswith("Parser key") else []
    for number, line in enumerate(lines):
        if CLASS_PROBLEM in line:
            nested = _below(lines, number)
            return " ".join([*(key if number else []), _bullet(line), in_one_line("\n".join(nested))])
    alternatives = [_bullet(line) for line in lines if line.strip().startswith("- ")]
    if meant := [alternative for alternative in alternatives if not alternative.startswith(OTHER_TYPES)]:
        given = [line.strip() for line in lines if line.strip().startswith("Given value:")]
        return " ".join([*key, " or ".join(meant), *given])
    return " ".join(line.strip() for line in lines)


def help_command(command: str, message: str) -> str:
    """The help page that lists the options which the error `message [one line]` is about."""
    of_class = re.match(
        r"Parser key \"(model|data)\": Problem with given class_path 'textdiff\.\w+\.(\w+)': Option", message
    )
    return f"textdiff {command} --{of_class[1]}.help {of_class[2]}" if of_class else f"textdiff {command} --help"


def _bullet(line: str) -> str:
    return line.strip().removeprefix("- ")


def _below(lines: list[str], number: int) -> Iterator[str]:
    """The lines after a line that are indented more."""
    return takewhile(lambda other: _indent(other) > _indent(lines[number]), lines[number + 1 :])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
