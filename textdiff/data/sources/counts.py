"""The number of texts and the seed of sources that generate their texts."""

from __future__ import annotations

from typing import Protocol

from textdiff.errors import UserError


class Generates(Protocol):
    """A source that draws so many texts."""

    @property
    def count(self) -> int: ...

    @property
    def seed(self) -> int: ...

    @property
    def name(self) -> str: ...


def check_count(source: Generates) -> None:
    """Check the numbers of a source that generates its texts.

    Raises:
        UserError: the count is below 1, or the seed below 0.
    """
    if source.count < 1 or source.seed < 0:
        raise UserError(f"{source.name!r} is no source of texts: expected a count of 1 or more and a seed of 0 or more")
