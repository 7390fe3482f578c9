"""The interface of a source of text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from textdiff.errors import UserError


class Source(ABC):
    """Yields documents: a file, a data set, a world, a model."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The shorthand of the source, for messages and for the keys of caches."""

    @abstractmethod
    def check(self) -> None:
        """Check, as far as this is cheap, that the source exists; nothing is read.

        Raises:
            UserError: it does not, or it is of an unknown kind.
        """

    @abstractmethod
    def texts(self, field: str) -> Iterator[str]:
        """Its documents in order, as they are; `field` is the column of a table that holds them."""

    @abstractmethod
    def version(self) -> list[str | int]:
        """What changes if the documents change, as far as this is known without reading all of them."""


class Entry(NamedTuple):
    """A row as its source holds it.

    Attributes:
        where: its place, for messages: "line 3 of 'rows.jsonl'".
        content: its fields by name; or a line of a file, which is parsed later.
        error: why the row cannot be read; None: it can, as far as this is known without parsing it.
    """

    where: str
    content: str | Mapping[str, Any]
    error: str | None = None


class ParsedRow(NamedTuple):
    """A row with a template.

    Attributes:
        template: text with gaps; what stood in the file if that is no template.
        fields: the other fields of the row, by name.
        error: why there is no template; None: there is one.
    """

    template: str
    fields: Mapping[str, Any]
    error: str | None = None


class RowSource(Source, ABC):
    """A source whose rows may be templates to fill; rows that cost time to parse are read first and parsed later."""

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """The rows in order, unparsed if they are lines of a file."""

    @abstractmethod
    def parse(self, entry: Entry, field: str) -> ParsedRow:
        """The template of a row, in `field`, and its other fields; a row that cannot be read is no exception."""

    @abstractmethod
    def count(self) -> int | None:
        """Number of rows; None if counting would take long."""


@contextmanager
def readable(name: str) -> Iterator[None]:
    """A context in which any exception of a file reader becomes a `UserError` about the source `name`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the readers of each kind of file raise what they like
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(f"{name!r} cannot be read ({reason}): check that it is complete and of that kind") from error
