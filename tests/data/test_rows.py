"""Rows and their order are a function of (seed, epoch, sample), in any number of processes."""

from itertools import chain, islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from tests.helpers.rows import same
from tests.helpers.training import stories
from textdiff.data import KeyedSampler, Mixture, PackedRows, RandomMasks
from textdiff.data.corpus import in_memory
from textdiff.errors import UserError
from textdiff.text import Vocabulary

LENGTH, RESERVE = 96, 8


@pytest.fixture(scope="module")
def rows(tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> PackedRows:
    return PackedRows(in_memory(stories(40), tokenizer), vocabulary, LENGTH, Mixture(), seed=3, reserve=RESERVE)


def test_an_epoch_holds_every_document_once(rows: PackedRows, vocabulary: Vocabulary) -> None:
    pieces = []
    for index in range(len(rows)):
        row = rows[0, index]
        assert all(len(value) == LENGTH for value in row.values())
        for segment in range(1, int(row["segments"].max()) + 1):
            piece = row["tokens"][row["segments"] == segment]
            pieces.append(piece[piece != vocabulary.null].tolist())
    corpus = rows.corpus
    documents = [corpus[d].tolist() for d in range(len(corpus))]
    longest = LENGTH - RESERVE
    assert sorted(piece for piece in pieces if piece in documents) == sorted(d for d in documents if len(d) <= longest)
    assert sum(map(len, pieces)) == corpus.offsets[-1]


def test_padding_is_never_scored(rows: PackedRows, vocabulary: Vocabulary) -> None:
    padded = 0
    for index in range(len(rows)):
        row = rows[0, index]
        pad = row["segments"] == 0
        padded += int(pad.sum())
        assert (row["tokens"][pad] == vocabulary.pad).all() and (row["canvas"][pad] == vocabulary.pad).all()
        assert row["observed"][pad].all() and not row["weights"][pad].any() and not row["nullable"][pad].any()
        assert (row["tokens"][~pad] != vocabulary.pad).all()
        assert (row["segments"][~pad].diff() >= 0).all()
    assert padded


def test_noise_is_a_function_of_seed_epoch_and_index(
    rows: PackedRows, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary
) -> None:
    again = PackedRows(rows.corpus, vocabulary, LENGTH, Mixture(), seed=3, reserve=RESERVE)
    assert same(rows[2, 5], again[2, 5])
    other_seed = PackedRows(rows.corpus, vocabulary, LENGTH, Mixture(), seed=4, reserve=RESERVE)
    assert not same(rows[2, 5], other_seed[2, 5])
    assert not same(rows[2, 5], rows[3, 5])


@pytest.mark.parametrize(("length", "reserve"), [(7, 0), (32, 25), (32, -1)])
def test_rows_without_room_for_text_are_refused(
    length: int, reserve: int, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary
) -> None:
    with pytest.raises(UserError, match="no room for text"):
        PackedRows(in_memory(["a"], tokenizer), vocabulary, length, RandomMasks(), 0, reserve)


def keys(sampler: KeyedSampler, batches: int) -> list[list[tuple[int, int]]]:
    return list(islice(sampler, batches))


def test_every_epoch_holds_every_item_once_in_an_order_of_its_own() -> None:
    stream = list(chain.from_iterable(keys(KeyedSampler(10, 4, seed=0), 10)))
    epochs = [[item for epoch, item in stream if epoch == e] for e in range(4)]
    assert [epoch for epoch, _ in stream] == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 10
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert stream != list(chain.from_iterable(keys(KeyedSampler(10, 4, seed=1), 10)))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_global_batches_of_one_process(world_size: int) -> None:
    alone = keys(KeyedSampler(10, 8, seed=0), 12)
    ranks = [keys(KeyedSampler(10, 8 // world_size, 0, rank, world_size), 12) for rank in range(world_size)]
    assert [list(chain(*slices)) for slices in zip(*ranks, strict=True)] == alone


@pytest.mark.parametrize("start", [0, 1, 7, 8, 25])
def test_the_order_resumes_where_it_stopped(start: int) -> None:
    whole = list(chain.from_iterable(keys(KeyedSampler(10, 1, seed=0), 60)))
    assert list(chain.from_iterable(keys(KeyedSampler(10, 4, seed=0, start=start), 5))) == whole[start : start + 20]


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_workers_change_nothing(rows: PackedRows, workers: int) -> None:
    def batches(workers: int) -> list[dict[str, torch.Tensor]]:
        sampler = KeyedSampler(len(rows), 2, seed=0, start=3)
        return list(islice(DataLoader(rows, batch_sampler=sampler, num_workers=workers), 12))

    assert all(same(a, b) for a, b in zip(batches(0), batches(workers), strict=True))


def test_masks_do_not_depend_on_the_global_random_state(rows: PackedRows) -> None:
    before = rows[1, 1]
    np.random.seed(5)
    torch.manual_seed(5)
    assert same(before, rows[1, 1])
