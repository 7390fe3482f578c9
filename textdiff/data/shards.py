"""Templates to fill, by the million: rows of files with all that they hold, in shards that are filled one by one."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, final

from torch.utils.data import IterableDataset

from textdiff.data.sources import PRIOR, QUESTIONS, WORLD, check_sources, is_text, lines, readable, rows, text_of
from textdiff.errors import UserError

_UNREAD = (".jsonl", ".txt", ".txt.xz")
"""Files whose rows are lines, which cost little until they are parsed."""


@dataclass(frozen=True)
class Row:
    """A text to fill.

    Attributes:
        index: its number among the rows of all sources.
        template: text with gaps; what stood in the file if that is no template.
        fields: what else the row holds, by name.
        error: why there is no template; None: there is one.
    """

    index: int
    template: str
    fields: Mapping[str, Any]
    error: str | None = None


@final
class Part:
    """Rows of one shard, alike in length, which are filled side by side.

    No dataclass: Lightning would copy one, looking for tensors.

    Attributes:
        shard: number of the shard.
        rows: in ascending length.
        last: whether no more of this shard follow.
    """

    def __init__(self, shard: int, rows: Sequence[Row], last: bool) -> None:
        self.shard, self.rows, self.last = shard, rows, last


def dealt(shard: int, finished: Sequence[int], world_size: int) -> int | None:
    """The rank that fills a shard: those not `finished` (ascending) are dealt in turn; None: this one is."""
    before = bisect_left(finished, shard)
    return None if shard in finished[before : before + 1] else (shard - before) % world_size


@final
class Shards(IterableDataset[Part]):
    """The rows of all sources in order, cut into shards of `size` rows; those to fill are dealt to the ranks in turn.

    What a shard holds and how it is cut into parts depends on the sources, `size` and `batch_size` alone. Rows of other
    ranks and of finished shards are passed over; in text and jsonl files they are not even parsed.

    Args:
        sources: a `.txt` file (or `.txt.xz`) has a template in each line that is not blank; jsonl, csv and parquet
            files and data sets of the Hub in `field`, whose rows keep their other fields.
        field: of the template.
        size: rows in a shard; None: one shard holds all.
        batch_size: rows in a part.
        rank, world_size: of this process.
        finished: numbers of shards that need not be filled, ascending, the same for all ranks.
        length: of a template, by which rows are brought together: short ones do not pay for long ones.

    Raises:
        UserError: there is no source, no row in any, or the first row has no template.
    """

    def __init__(
        self,
        sources: Sequence[str],
        field: str,
        size: int | None,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        finished: Sequence[int] = (),
        length: Callable[[str], int] = len,
    ) -> None:
        check_sources(sources)
        for source in sources:
            if source.startswith((WORLD, PRIOR, QUESTIONS)):
                raise UserError(f"{source!r} writes texts without gaps: name files of templates in data.predict")
        self.sources, self.field, self.size, self.batch_size = sources, field, size, batch_size
        self.rank, self.world_size, self.finished, self.length = rank, world_size, finished, length
        first = next(self._entries(), None)
        if first is None:
            raise UserError(f"no template in {', '.join(sources)}: the files are empty")
        if (row := self._row(0, *first)).error is not None:
            raise UserError(row.error)

    def __iter__(self) -> Iterator[Part]:
        for number, entries in groupby(enumerate(self._entries()), lambda entry: self._shard(entry[0])):
            if not self._mine(number):
                continue
            found = [self._row(index, *entry) for index, entry in entries]
            found.sort(key=lambda row: self.length(row.template))
            for start in range(0, len(found), self.batch_size):
                stop = start + self.batch_size
                yield Part(number, found[start:stop], stop >= len(found))

    def remaining(self) -> int | None:
        """Rows that this rank has to fill; None if that would take long to find out."""
        total = 0
        for source in self.sources:
            with readable(source):
                if source.endswith(_UNREAD):
                    total += sum(bool(line.strip()) for line in lines(source))
                elif source.endswith(".parquet"):
                    from pyarrow.parquet import read_metadata

                    total += read_metadata(source).num_rows
                else:
                    return None
        size = total if self.size is None else self.size
        return sum(min(size, total - start) for start in range(0, total, size) if self._mine(start // size))

    def _shard(self, index: int) -> int:
        return 0 if self.size is None else index // self.size

    def _mine(self, number: int) -> bool:
        return dealt(number, self.finished, self.world_size) == self.rank

    def _entries(self) -> Iterator[tuple[str, str | Mapping[str, Any]]]:
        """Each row as its file holds it, and which file that is."""
        for source in self.sources:
            with readable(source):
                if source.endswith(_UNREAD):
                    yield from ((source, line) for line in lines(source) if line.strip())
                else:
                    yield from ((source, row) for row in rows(source))

    def _row(self, index: int, source: str, entry: str | Mapping[str, Any]) -> Row:
        if isinstance(entry, str):
            entry = entry.strip()
            if is_text(source):
                return Row(index, entry, {})
            try:
                content = json.loads(entry)
            except ValueError as error:
                return Row(index, entry, {}, f"a row of {source!r} is no JSON ({error})")
            if not isinstance(content, dict):
                return Row(index, entry, {}, f"a row of {source!r} is no JSON object, expected one with {self.field!r}")
            entry = content
        names = [self.field] if self.field in entry else self.field.split("+")
        others = {name: value for name, value in entry.items() if name not in names}
        try:
            return Row(index, text_of(entry, self.field, source), others)
        except UserError as error:
            return Row(index, "", entry, str(error))
