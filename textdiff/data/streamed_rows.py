"""Rows of text that does not fit on disk: tokenised, packed and corrupted on the fly, in any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count, islice
from typing import final

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerBase

from textdiff.data.corpus import encoded
from textdiff.data.corruption.corruption import Corruption
from textdiff.data.packing import cut, pack
from textdiff.data.rows import Key, Row, check_room, corrupt_row
from textdiff.data.sources import Source, documents
from textdiff.text import Vocabulary

Piece = NDArray[np.int64]


@final
class StreamedRows(IterableDataset[Row]):
    """An endless stream of the rows that `PackedRows` describes, made from `buffer` pieces of documents at a time.

    The stream is the same for any number of processes. Each goes through all of it and yields only its own rows: row r
    belongs to batch r // `batch_size`, batches go to the ranks in turn, and those of a rank to its workers in
    turn, as a `DataLoader` collects them. So loading, tokenising and packing are repeated in each process, and the work
    of the corruption is shared.

    Args:
        sources: of text, see `textdiff.data.sources`.
        tokenizer: text -> ids.
        vocabulary: special tokens.
        length: tokens in a row.
        batch_size: rows in a batch of one rank; the `DataLoader` must use the same.
        corruption: makes the canvases and the weights.
        seed: of noise and order.
        reserve: positions of each row that packing leaves free, for null slots.
        field: column that holds the text.
        buffer: pieces that are packed and shuffled as one.
        rank, world_size: which batches are ours.
        start: rows of the stream, of all ranks, already consumed.

    Raises:
        UserError: `length` is too short to hold a text; while iterating, whatever `documents` raises.
    """

    def __init__(
        self,
        sources: Sequence[str | Source],
        tokenizer: PreTrainedTokenizerBase,
        vocabulary: Vocabulary,
        *,
        length: int,
        batch_size: int,
        corruption: Corruption,
        seed: int,
        reserve: int = 0,
        field: str = "text",
        buffer: int = 1024,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
    ) -> None:
        check_room(length, reserve)
        self.sources, self.tokenizer, self.vocabulary, self.field = sources, tokenizer, vocabulary, field
        self.length, self.batch_size, self.reserve, self.buffer = length, batch_size, reserve, buffer
        self.corruption, self.seed = corruption, seed
        self.rank, self.world_size, self.start = rank, world_size, start

    def __iter__(self) -> Iterator[Row]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        for number, (key, texts) in enumerate(islice(self.rows(), self.start, None)):
            turn, rank = divmod(number // self.batch_size, self.world_size)
            if rank == self.rank and turn % workers == worker:
                yield corrupt_row(texts, self.corruption, self.vocabulary, self.length, (self.seed, *key))

    def rows(self) -> Iterator[tuple[Key, list[Piece]]]:
        """The rows of all processes, in order: key (epoch, index) and the pieces in it."""
        for epoch in count():
            pieces = chain.from_iterable(
                map(self._pieces, encoded(documents(self.sources, self.field), self.tokenizer))
            )
            index = 0
            for number in count():
                if not (some := list(islice(pieces, self.buffer))):
                    break
                rows = pack(np.asarray([len(piece) for piece in some]), self.length - self.reserve)
                for row in np.random.default_rng((self.seed, epoch, number, 1)).permutation(len(rows)):
                    yield (epoch, index), [some[piece] for piece in rows[row]]
                    index += 1

    def _pieces(self, document: NDArray[np.uint32]) -> list[Piece]:
        ids = document.astype(np.int64)
        return [ids[start:stop] for start, stop in cut(np.asarray([0, len(ids)]), self.length - self.reserve)]
