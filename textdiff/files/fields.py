"""What settings and arguments may be: one table for each thing that has some, and one check of all its values."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, final

from textdiff.errors import UserError

MOST = 2**62
"""Sizes are 64-bit numbers; whether there is memory for them, the weights say."""


@final
@dataclass(frozen=True)
class Field:
    """What one setting or argument may be.

    Args:
        fits: whether a value may be it.
        expected: in words, to end the message "NAME is VALUE, ...".
    """

    fits: Callable[[Any], bool]
    expected: str

    def optional(self) -> Field:
        """The same, or None."""
        return Field(lambda value: value is None or self.fits(value), f"{self.expected}, or None")

    def check(self, name: str, value: Any) -> None:
        """Check a value.

        Args:
            name: of the setting or argument, in the message.
            value: it.

        Raises:
            UserError: it is not what it may be.
        """
        if not self.fits(value):
            raise UserError(f"{name} is {_shown(value)}, {self.expected}")


def whole(least: int = 1, most: int = MOST) -> Field:
    """A whole number that is neither too small nor too large."""
    expected = f"{least} or more" if most == MOST else f"{least} to {most}"
    return Field(lambda value: _is_whole(value) and least <= value <= most, f"expected a whole number, {expected}")


def number(fits: Callable[[float], bool], expected: str) -> Field:
    """A finite number in some range."""
    return Field(lambda value: is_number(value) and fits(float(value)), f"expected {expected}")


def choice(*values: str) -> Field:
    """One of some names."""
    return Field(lambda value: isinstance(value, str) and value in values, f"expected one of {', '.join(values)}")


def instance(kind: type | tuple[type, ...], expected: str) -> Field:
    """An object of a class, or of one of several."""
    return Field(lambda value: isinstance(value, kind), f"expected {expected}")


def several(item: Field, expected: str, most: int = 2**16) -> Field:
    """A list, a tuple or a range, not empty and not too long, of values that all fit."""
    return Field(
        lambda value: (
            isinstance(value, list | tuple | range) and 1 <= len(value) <= most and all(map(item.fits, value))
        ),
        f"expected a list of {expected}, 1 to {most} of them",
    )


def token(size: int) -> Field:
    """The id of a token, or None where there is no such token."""
    return Field(
        lambda value: value is None or (_is_whole(value) and 0 <= value < size),
        f"outside a vocabulary of {size} tokens",
    )


FLAG = Field(lambda value: isinstance(value, bool), "expected true or false")
TEXT = instance(str, "a text")
FUNCTION = Field(callable, "expected a function")
NOT_NEGATIVE = number(lambda value: value >= 0, "a number, 0 or more")
PROBABILITY = number(lambda value: 0 <= value <= 1, "a number from 0 to 1")
SHARE = number(lambda value: 0 <= value < 1, "in [0, 1)")
"""Of dropout."""
WAVELENGTH = number(lambda value: 0 < value <= 1e12, "above 0 and at most 1e12")
"""The base of rotary wavelengths."""


def check_fields(settings: Mapping[str, Any], fields: Mapping[str, Field]) -> None:
    """Check all settings that are there.

    Raises:
        UserError: one is not what it may be.
    """
    for name, field in fields.items():
        if name in settings:
            field.check(name, settings[name])


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return abs(float(value)) < 1e300
    except OverflowError:  # a whole number of more digits than a float has
        return False


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    """A value in few characters."""
    try:
        return reprlib.repr(value)
    except ValueError:  # a number of more digits than Python writes
        return f"a very large {type(value).__name__}"
