"""Rows to fill: in order, each once, whoever takes them."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from textdiff.data import Row, Shards
from textdiff.errors import UserError


def jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def taken(sources: list[str], field: str = "text", size: int | None = 4, batch_size: int = 3, **more: Any) -> list[Row]:
    """All rows, in the order of their numbers."""
    rows = [row for part in Shards(sources, field, size, batch_size, **more) for row in part.rows]
    return sorted(rows, key=lambda row: row.index)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return jsonl(tmp_path / "rows.jsonl", [{"id": i, "text": f"{'a' * (7 * i % 11)} [gap]"} for i in range(10)])


def test_rows_keep_their_fields_and_exact_text(tmp_path: Path) -> None:
    rows = [{"id": "x", "text": " a [gap]\n", "more": {"b": [1, None, 2.5]}}, {"text": "[gap] c", "id": "é\u2028"}]
    found = taken([jsonl(tmp_path / "rows.jsonl", rows)])
    assert [(row.index, row.template) for row in found] == [(0, " a [gap]\n"), (1, "[gap] c")]
    assert [row.fields for row in found] == [{"id": "x", "more": {"b": [1, None, 2.5]}}, {"id": "é\u2028"}]


def test_files_of_all_kinds_follow_one_another(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One [gap] two.\n\n Three [gap:4] four.\n")
    (tmp_path / "b.csv").write_text('id,text\n7,"Five, [gap]"\n')
    pyarrow.parquet.write_table(pyarrow.table({"text": ["Six [gap]."], "id": [8]}), tmp_path / "c.parquet")
    found = taken([str(tmp_path / name) for name in ("a.txt", "b.csv", "c.parquet")])
    assert [row.template for row in found] == ["One [gap] two.", "Three [gap:4] four.", "Five, [gap]", "Six [gap]."]
    assert [dict(row.fields) for row in found] == [{}, {}, {"id": "7"}, {"id": 8}]
    assert [row.index for row in found] == [0, 1, 2, 3]
    assert taken([jsonl(tmp_path / "d.jsonl", [{"a": "x ", "b": "[gap] y"}])], "a+b")[0].template == "x [gap] y"


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_ranks_share_the_shards(source: str, world_size: int) -> None:
    parts = [list(Shards([source], "text", 4, 3, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert [row for rank in parts for part in rank for row in part.rows] != []
    assert sorted(row.index for rank in parts for part in rank for row in part.rows) == list(range(10))
    assert all(part.shard % world_size == rank for rank, mine in enumerate(parts) for part in mine)
    alone = {(part.shard, tuple(row.index for row in part.rows)) for part in Shards([source], "text", 4, 3)}
    assert {(part.shard, tuple(row.index for row in part.rows)) for rank in parts for part in rank} == alone
    counts = [
        Shards([source], "text", 4, 3, rank=rank, world_size=world_size).remaining() for rank in range(world_size)
    ]
    assert counts == [sum(len(part.rows) for part in rank) for rank in parts]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("finished", [[], [0], [0, 2], [1, 3], [0, 2, 4], [1, 2, 3], [0, 1, 2, 3, 4]], ids=str)
def test_what_is_left_is_shared_evenly(source: str, finished: list[int], world_size: int) -> None:
    ranks = [
        Shards([source], "text", 2, 3, rank=rank, world_size=world_size, finished=finished)
        for rank in range(world_size)
    ]
    taken = [[part.shard for part in rank] for rank in ranks]
    assert sorted(shard for mine in taken for shard in mine) == [n for n in range(5) if n not in finished]
    assert max(map(len, taken)) - min(map(len, taken)) <= 1
    assert [rank.remaining() for rank in ranks] == [2 * len(mine) for mine in taken]


def test_rows_are_brought_together_by_the_length_that_is_asked_for(source: str) -> None:
    shorter = list(Shards([source], "text", None, 3, length=lambda template: -len(template)))
    lengths = [len(row.template) for part in shorter for row in part.rows]
    assert lengths == sorted(lengths, reverse=True) and len(lengths) == 10


def test_parts_are_of_one_shard_and_alike_in_length(source: str) -> None:
    parts = list(Shards([source], "text", 4, 3))
    assert [(part.shard, len(part.rows), part.last) for part in parts] == [
        (0, 3, False),
        (0, 1, True),
        (1, 3, False),
        (1, 1, True),
        (2, 2, True),
    ]
    for shard in range(3):
        lengths = [len(row.template) for part in parts if part.shard == shard for row in part.rows]
        assert lengths == sorted(lengths)


def test_finished_shards_are_passed_over_unread(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = Shards([source], "text", 4, 3, finished=[0, 2])
    assert shards.remaining() == 4
    monkeypatch.setattr(json, "loads", lambda line, loads=json.loads: loads(line) if line[1:8] >= '"id": 4' else 1 / 0)
    assert sorted(row.index for part in shards for row in part.rows) == [4, 5, 6, 7]


def test_a_row_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    rows = [{"text": "a [gap]"}, "{broken", "[1]", {"id": 3}, {"text": 4}, {"text": None}]
    found = taken([jsonl(tmp_path / "rows.jsonl", rows)])
    messages = ["no JSON", "no JSON object", "no field 'text', only id: set data.field", "holds 4, expected text"]
    assert found[0].error is None and found[5].template == "" and found[5].error is None
    for row, message in zip(found[1:5], messages, strict=True):
        assert row.error is not None and message in row.error
    assert found[1].template == "{broken" and found[3].fields == {"id": 3}


def test_if_the_first_row_has_no_template_none_is_filled(source: str, tmp_path: Path) -> None:
    for wrong, message in (
        ({"sources": [source], "field": "prompt"}, "has no field 'prompt', only id, text: set data.field"),
        ({"sources": []}, "no source of text"),
        ({"sources": [str(tmp_path / "nowhere.jsonl")]}, "no text file at"),
        ({"sources": [jsonl(tmp_path / "empty.jsonl", [])]}, "the files are empty"),
        ({"sources": ["world:hmm:3"]}, "has texts without gaps"),
    ):
        with pytest.raises(UserError, match=message):
            Shards(**{"field": "text", "size": 4, "batch_size": 3} | wrong)
