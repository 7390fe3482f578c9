"""What the settings of a model may be: one table for each kind of model, and one check of all its values."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from textdiff.errors import UserError

MOST = 2**62
"""Sizes are 64-bit numbers; whether there is memory for them, the weights say."""


@final
@dataclass(frozen=True)
class Field:
    """What one setting may be.

    Args:
        fits: whether a value may be it.
        expected: in words, to end the message "NAME is VALUE, ...".
    """

    fits: Callable[[Any], bool]
    expected: str

    def optional(self) -> Field:
        """The same, or None."""
        return Field(lambda value: value is None or self.fits(value), f"{self.expected}, or None")


def whole(least: int = 1) -> Field:
    """A whole number that is not too small."""
    return Field(lambda value: _is_whole(value) and least <= value <= MOST, f"expected a whole number, {least} or more")


def number(fits: Callable[[float], bool], expected: str) -> Field:
    """A finite number in some range."""
    return Field(lambda value: is_number(value) and fits(float(value)), f"expected {expected}")


def choice(*values: str) -> Field:
    """One of some names."""
    return Field(lambda value: isinstance(value, str) and value in values, f"expected one of {', '.join(values)}")


def token(size: int) -> Field:
    """The id of a token, or None where there is no such token."""
    return Field(
        lambda value: value is None or (_is_whole(value) and 0 <= value < size),
        f"outside a vocabulary of {size} tokens",
    )


FLAG = Field(lambda value: isinstance(value, bool), "expected true or false")
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
        if name in settings and not field.fits(settings[name]):
            raise UserError(f"{name} is {reprlib.repr(settings[name])}, {field.expected}")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
