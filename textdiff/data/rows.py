"""Rows of packed, corrupted text: a map-style dataset whose noise depends on (seed, epoch, sample index) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from textdiff.data.corpus import Corpus
from textdiff.data.corruption.corruption import Corruption, concatenate
from textdiff.data.packing import cut, pack
from textdiff.errors import UserError
from textdiff.text import Vocabulary

Key = tuple[int, int]
Row = dict[str, Tensor]


@final
class PackedRows(Dataset[Row]):
    """Rows of `length` tokens, each filled with pieces of documents that do not attend to each other.

    Item `(epoch, index)` is a dictionary of `[length]` tensors: `tokens`, `canvas` (int64), `observed`, `nullable`
    (bool), `weights` (float32), `segments` (int64: 1, 2, ... for the pieces, 0 for padding), `positions` (int64, those
    of each piece from 0) and `times` (int64, reveal times, -1 for evidence).

    Args:
        corpus: the documents.
        vocabulary: special tokens.
        length: tokens in a row.
        corruption: makes the canvases and the weights.
        seed: of the noise.
        reserve: positions of each row that packing leaves free, for null slots.

    Raises:
        UserError: `length` is too short to hold a text.
    """

    def __init__(
        self, corpus: Corpus, vocabulary: Vocabulary, length: int, corruption: Corruption, seed: int, reserve: int = 0
    ) -> None:
        check_room(length, reserve)
        self.corpus, self.vocabulary, self.length = corpus, vocabulary, length
        self.corruption, self.seed = corruption, seed
        self.pieces = cut(corpus.offsets, length - reserve)
        self.rows = pack(self.pieces[:, 1] - self.pieces[:, 0], length - reserve)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Row:
        epoch, index = key
        texts = [self.corpus.tokens[start:stop].astype(np.int64) for start, stop in self.pieces[self.rows[index]]]
        return corrupt_row(texts, self.corruption, self.vocabulary, self.length, (self.seed, epoch, index))


def check_room(length: int, reserve: int) -> None:
    """Check that rows of `length` tokens have room for text beside `reserve` null slots.

    Raises:
        UserError: they have none.
    """
    if reserve < 0 or length - reserve < 8:
        raise UserError(
            f"rows of {length} tokens with {reserve} kept for null slots leave no room for text: raise data.length"
        )


def corrupt_row(
    texts: Sequence[NDArray[np.int64]], corruption: Corruption, vocabulary: Vocabulary, length: int, key: Sequence[int]
) -> Row:
    """Corrupt texts with the random numbers of `key` and concatenate them to a row, as described at `PackedRows`."""
    rng = np.random.default_rng(key)
    room = length - sum(map(len, texts))
    examples = []
    for text in texts:
        examples.append(corruption(text, vocabulary, room, rng))
        room -= len(examples[-1].tokens) - len(text)
    row = concatenate(examples)
    assert vocabulary.pad is not None
    places = [np.arange(len(e.tokens)) if e.positions is None else e.positions for e in examples]
    segments = np.repeat(np.arange(1, len(examples) + 1), [len(example.tokens) for example in examples])

    def padded(array: NDArray[np.generic], value: float) -> Tensor:
        return torch.from_numpy(np.pad(array, (0, length - len(array)), constant_values=value))

    return {
        "tokens": padded(row.tokens, vocabulary.pad),
        "canvas": padded(row.canvas, vocabulary.pad),
        "observed": padded(row.observed, True),
        "weights": padded(row.weights, 0.0),
        "nullable": padded(row.nullable, False),
        "segments": padded(segments, 0),
        "positions": padded(np.concatenate(places), 0),
        "times": padded(row.reveal_times, -1),
    }


@final
class KeyedSampler(Sampler[list[Key]]):
    """An endless stream of batches of keys (epoch, index), which is resumed by the number of samples consumed.

    Sample p of the stream is item p mod size of epoch p // size, in an order drawn from (seed, epoch). Ranks take
    consecutive slices of each global batch, so the global batch depends only on `batch_size * world_size`.

    Args:
        size: items in an epoch.
        batch_size: items in a batch of one rank.
        seed: of the order.
        rank, world_size: which slice of the global batch is ours.
        start: samples of the stream, of all ranks, already consumed.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, start: int = 0
    ) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.world_size, self.start = rank, world_size, start

    def __iter__(self) -> Iterator[list[Key]]:
        known, order = -1, np.empty(0, dtype=np.int64)
        for first in count(self.start + self.rank * self.batch_size, self.world_size * self.batch_size):
            keys = []
            for position in range(first, first + self.batch_size):
                epoch, item = divmod(position, self.size)
                if epoch != known:
                    known, order = epoch, np.random.default_rng((self.seed, epoch)).permutation(self.size)
                keys.append((epoch, int(order[item])))
            yield keys
