"""Streaming gives the same rows for any number of workers and ranks, and from any start."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from tests.helpers.rows import same
from textdiff.data import Mixture, documents
from textdiff.data.corpus import encoded
from textdiff.data.streamed_rows import StreamedRows
from textdiff.errors import UserError
from textdiff.text import Vocabulary

Batch = dict[str, torch.Tensor]


@pytest.fixture
def settings(source: Path, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "sources": [str(source)],
        "tokenizer": tokenizer,
        "vocabulary": vocabulary,
        "length": 96,
        "corruption": Mixture(),
        "seed": 3,
        "reserve": 8,
        "buffer": 16,
    }


def batches(settings: dict[str, Any], count: int, batch_size: int, workers: int = 0, **more: int) -> list[Batch]:
    stream = StreamedRows(**settings, batch_size=batch_size, **more)
    return list(islice(DataLoader(stream, batch_size=batch_size, num_workers=workers), count))


def test_an_epoch_holds_every_document_once(settings: dict[str, Any]) -> None:
    texts = [ids.tolist() for ids in encoded(documents(settings["sources"]), settings["tokenizer"])]
    total, first, second = sum(map(len, texts)), [], []
    for (epoch, index), pieces in StreamedRows(**settings, batch_size=2).rows():
        if epoch == 2:
            break
        rows = second if epoch else first
        assert index == len(rows) and sum(map(len, pieces)) <= 88
        rows.append([piece.tolist() for piece in pieces])
    for rows in (first, second):
        pieces = [piece for row in rows for piece in row]
        assert sum(map(len, pieces)) == total
        assert sorted(piece for piece in pieces if piece in texts) == sorted(text for text in texts if len(text) <= 88)
    assert first != second, "each epoch is shuffled anew"
    assert sorted(map(str, first)) == sorted(map(str, second))


@pytest.mark.parametrize(
    "workers", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_workers_change_nothing(settings: dict[str, Any], workers: int) -> None:
    alone = batches(settings, 9, batch_size=2)
    assert all(same(a, b) for a, b in zip(alone, batches(settings, 9, batch_size=2, workers=workers), strict=True))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_ranks_share_the_global_batches_of_one_process(settings: dict[str, Any], workers: int) -> None:
    alone = batches(settings, 20, batch_size=4)
    ranks = [batches(settings, 20, batch_size=2, workers=workers, rank=rank, world_size=2) for rank in range(2)]
    for whole, first, second in zip(alone, *ranks, strict=True):
        assert same(whole, {name: torch.cat((first[name], second[name])) for name in whole})


@pytest.mark.parametrize("start", [1, 6, 50])
def test_the_stream_resumes_where_it_stopped(settings: dict[str, Any], start: int) -> None:
    whole = batches(settings, start + 6, batch_size=1)
    resumed = batches(settings, 3, batch_size=2, start=start)
    for k, batch in enumerate(resumed):
        rows = whole[start + 2 * k : start + 2 * k + 2]
        assert same(batch, {name: torch.cat([row[name] for row in rows]) for name in batch})


def test_the_buffer_is_bounded(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = 0

    def counted(*arguments: Any) -> Any:
        nonlocal loaded
        for text in documents(*arguments):
            loaded += 1
            yield text

    monkeypatch.setattr("textdiff.data.streamed_rows.documents", counted)
    monkeypatch.setattr(
        "textdiff.data.streamed_rows.encoded", lambda texts, tokenizer: encoded(texts, tokenizer, at_once=1)
    )
    stream = iter(StreamedRows(**settings, batch_size=2))
    next(stream)
    assert loaded <= settings["buffer"]


def test_an_empty_stream_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UserError, match="the files are empty"):
        next(iter(StreamedRows(**settings | {"sources": [str(tmp_path / "empty.txt")]}, batch_size=2)))
