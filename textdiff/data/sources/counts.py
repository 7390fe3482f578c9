"""The number of texts and the seed of sources that generate their texts."""

from __future__ import annotations

from typing import Protocol

from textdiff.errors import UserError
from textdiff.files.fields import whole
from textdiff.posterior.samples import SEED
from textdiff.worlds.catalog import MOST_TEXTS


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
    if not (whole(1, MOST_TEXTS).fits(source.count) and SEED.fits(source.seed)):
        raise UserError(
            f"{source.name!r} is no source of texts: expected a count of 1 to {MOST_TEXTS}, and a seed of 0 or more, "
            "below 2**64"
        )
