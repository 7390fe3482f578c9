"""Queries: their gaps, the split into seen and unseen, and the stream of batches."""

from pathlib import Path

import pytest

from textdiff.amortization import QueryDataModule
from textdiff.errors import UserError
from textdiff.text import decode
from textdiff.worlds import world


def queries(**options: object) -> QueryDataModule:
    found = QueryDataModule(
        ["world:hmm:20:1"], ["world:hmm:20:2"], **({"count": 20, "unseen": 5, "batch_size": 4} | options)
    )  # type: ignore[arg-type]
    found.tokenizer = world("hmm").tokenizer
    return found


def ready(data: QueryDataModule) -> QueryDataModule:
    data.setup("test")
    return data


def test_batches_hold_gaps_of_the_asked_length_and_the_true_text() -> None:
    data = ready(queries(gap_length=7))
    stream = iter(data.train_dataloader())
    seen: list[int] = []
    for _ in range(5):
        batch = next(stream)
        assert (batch.canvas.slots.sum(dim=1) == 7).all()
        assert (batch.tokens == batch.canvas.tokens)[~batch.canvas.slots].all()
        assert not (batch.tokens == data.tokenizer.mask_token_id).any()
        seen += batch.number.tolist()
    assert sorted(seen) == list(range(20))  # an epoch asks every query once


def test_what_is_unseen_is_not_learnt_from() -> None:
    data = ready(queries())
    unseen, seen = data.val_dataloader()
    texts = [{tuple(row) for batch in loader for row in batch.tokens.tolist()} for loader in (unseen, seen)]
    assert len(texts[0]) == len(texts[1]) == 5
    assert not texts[0] & texts[1]
    learnt = {tuple(query.tokens[0].tolist()) for query in map(data.seen_queries.__getitem__, range(20))}
    assert texts[1] <= learnt and not texts[0] & learnt


def test_templates_of_several_lengths_share_a_batch(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("dd[gap:2-4]m\nd[gap:1]\n")
    data = QueryDataModule([str(tmp_path / "t.txt")], [str(tmp_path / "t.txt")], holds="templates", batch_size=2)
    data.tokenizer = world("hmm").tokenizer
    batch = next(iter(ready(data).train_dataloader()))
    assert batch.tokens is None and len(batch) == 2
    by_number = batch.canvas.select(batch.number.argsort())
    assert by_number.slots.sum(dim=1).tolist() == [4, 1]
    assert by_number.minimum.tolist() == [[2], [1]]
    assert by_number.tokens[1, -1] == data.tokenizer.pad_token_id


def test_questions_seek_a_rationale_and_an_answer() -> None:
    data = QueryDataModule(
        ["world:arithmetic:8:1"], ["world:arithmetic:8:2"], holds="questions", gap_length=20, batch_size=8
    )
    data.tokenizer = world("arithmetic").tokenizer
    batch = next(iter(ready(data).train_dataloader()))
    assert batch.tokens is None
    assert batch.canvas.minimum.tolist() == [[1, 1]] * 8 and batch.canvas.maximum.tolist() == [[20, 8]] * 8
    for row in batch.canvas.tokens:
        question, *rest = decode(data.tokenizer, row[row != data.tokenizer.mask_token_id].tolist()).split("\n")
        assert question.endswith("= ?") and not "".join(rest).strip()


def test_the_stream_goes_on_where_it_stopped() -> None:
    data = ready(queries())
    stream = iter(data.train_dataloader())
    whole = [next(stream).number.tolist() for _ in range(7)]
    data.load_state_dict({"batches": 3, "rows": 12})
    resumed = iter(data.train_dataloader())
    assert [next(resumed).number.tolist() for _ in range(4)] == whole[3:]


def test_mistakes_take_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 or more"):
        queries(batch_size=0)
    with pytest.raises(UserError, match="no text with room for a gap of 80 tokens"):
        ready(queries(gap_length=80))
    data = QueryDataModule([str(tmp_path / "no.txt")], ["world:hmm:2"])
    data.tokenizer = world("hmm").tokenizer
    with pytest.raises(UserError, match="no text file at"):
        ready(data)
