"""Templates to fill, by the million: the rows of files with all their fields, in shards that are filled one by one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, final

from torch.utils.data import IterableDataset

from textdiff.data.sources import Entry, RowSource, Source, check_sources, parse_sources, readable, source_names
from textdiff.errors import UserError

FIRST_ROWS = 16
"""Rows of which one must have a template."""


@dataclass(frozen=True)
class Row:
    """A text to fill.

    Attributes:
        index: its number among the rows of all sources.
        template: text with gaps; what stood in the file if that is no template.
        fields: the other fields of the row, by name.
        error: why there is no template; None: there is one.
    """

    index: int
    template: str
    fields: Mapping[str, Any]
    error: str | None = None


@final
class Part:
    """Rows of one shard, of similar lengths, that are filled in one batch.

    No dataclass: Lightning would copy one, looking for tensors.

    Attributes:
        shard: number of the shard.
        rows: in ascending length.
        last: whether this is the last part of the shard.
    """

    def __init__(self, shard: int, rows: Sequence[Row], last: bool) -> None:
        self.shard, self.rows, self.last = shard, rows, last


def assigned_rank(shard: int, finished: Sequence[int], world_size: int) -> int | None:
    """The rank that fills a shard: those not `finished` (ascending) take turns; None: this one is finished."""
    before = bisect_left(finished, shard)
    return None if shard in finished[before : before + 1] else (shard - before) % world_size


@final
class Shards(IterableDataset[Part]):
    """The rows of all sources in order, cut into shards of `size` rows, which the ranks fill in turn.

    What a shard holds and how it is cut into parts depends on the sources, `size` and `batch_size` alone. Rows of other
    ranks and of finished shards are skipped; in text and jsonl files they are not even parsed.

    Args:
        sources: a `.txt` file has a template in each line that is not blank; jsonl, csv and parquet
            files and data sets of the Hub in `field`, whose rows keep their other fields.
        field: of the template.
        size: rows in a shard; None: one shard holds all.
        batch_size: rows in a part.
        rank, world_size: of this process.
        finished: numbers of shards that need not be filled, ascending, the same for all ranks.
        length: of a template; rows of similar length share a part, so that little of a batch is padding.

    Raises:
        UserError: there is no source, no row in any, or none of the first `FIRST_ROWS` rows has a template.
    """

    def __init__(
        self,
        sources: Sequence[str | Source],
        field: str,
        size: int | None,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        finished: Sequence[int] = (),
        length: Callable[[str], int] = len,
    ) -> None:
        check_sources(sources, "data.predict")
        self.sources: list[RowSource] = []
        for source in parse_sources(sources):
            if not isinstance(source, RowSource):
                raise UserError(f"{source.name!r} has texts without gaps: name files of templates in data.predict")
            self.sources.append(source)
        self.field, self.size, self.batch_size = field, size, batch_size
        self.rank, self.world_size, self.finished, self.length = rank, world_size, finished, length
        self._check_beginning()

    def __iter__(self) -> Iterator[Part]:
        for number, entries in groupby(enumerate(self._entries()), lambda entry: self._shard(entry[0])):
            if not self._mine(number):
                continue
            rows = [self._row(index, *entry) for index, entry in entries]
            rows.sort(key=lambda row: self.length(row.template))
            for start in range(0, len(rows), self.batch_size):
                stop = start + self.batch_size
                yield Part(number, rows[start:stop], stop >= len(rows))

    def remaining(self) -> int | None:
        """Rows that this rank has to fill; None if counting them would take long."""
        total = 0
        for source in self.sources:
            with readable(source.name):
                count = source.count()
            if count is None:
                return None
            total += count
        size = total if self.size is None else self.size
        return sum(min(size, total - start) for start in range(0, total, size) if self._mine(start // size))

    def _shard(self, index: int) -> int:
        return 0 if self.size is None else index // self.size

    def _mine(self, number: int) -> bool:
        return assigned_rank(number, self.finished, self.world_size) == self.rank

    def _check_beginning(self) -> None:
        """Raise a `UserError` if none of the first rows has a template: then no other is likely to have one."""
        errors = []
        for index, entry in enumerate(islice(self._entries(), FIRST_ROWS)):
            if (error := self._row(index, *entry).error) is None:
                return
            errors.append(error)
        raise UserError(errors[0] if errors else f"no template in {source_names(self.sources)}: the files are empty")

    def _entries(self) -> Iterator[tuple[RowSource, Entry]]:
        """Each row as its source holds it, with the source."""
        for source in self.sources:
            with readable(source.name):
                yield from ((source, entry) for entry in source.entries())

    def _row(self, index: int, source: RowSource, entry: Entry) -> Row:
        return Row(index, *source.parse(entry, self.field))
