"""Predictions in shards: each row is filled as it would be alone, on any process, however often the run is killed."""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.kills import leftovers, predict_through_kills, run_forked
from tests.helpers.processes import kill, start, status, wait_until
from tests.helpers.tiny import CORPUS, save, tiny
from tests.helpers.training import write_config
from tests.helpers.tree import ROOT
from textdiff.cli.lightning import run
from textdiff.data import Row
from textdiff.errors import UserError
from textdiff.pretrained import load
from textdiff.training.fill_rows import FillOptions, fill_rows

ROWS = [{"id": f"row {i}", "prompt": CORPUS[i % 36].replace(" her ", " [gap:1-4] ")} for i in range(11)]
ROWS[3]["prompt"] = "No gap here."
ROWS[4]["prompt"] = "Long " * 600 + "[gap]."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and rows to fill."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return save(tiny(), folder)


def options(model: Path, to: Path, fill: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    """`textdiff predict` of 3 rows in a shard; `changes` by section and name."""
    config: dict[str, Any] = {
        "trainer": {"accelerator": "cpu", "logger": False},
        "data": {"predict": [str(model / "rows.jsonl")], "field": "prompt", "batch_size": 2},
        "model": {"init_args": {"checkpoint": str(model), "fill": {"n": 2, "steps": 3, "seed": 5} | (fill or {})}},
        "predictions": {"path": str(to), "rows": 3},
    }
    for key, value in changes.items():
        section, _, name = key.partition("_")
        (config[section]["init_args"] if section == "model" else config[section])[name] = value
    return ["predict", "--config", str(write_config(to.with_suffix(".yaml"), config))]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an uninterrupted run writes."""
    to = tmp_path_factory.mktemp("whole") / "out"
    assert run(options(model, to)) == 0
    return files(to)


def test_rows_come_out_in_order_as_each_would_alone(model: Path, whole: dict[str, bytes]) -> None:
    assert sorted(whole) == ["00000.jsonl", "00001.jsonl", "00002.jsonl", "00003.jsonl", "settings.json"]
    found = [json.loads(line) for name in sorted(whole)[:-1] for line in whole[name].splitlines()]
    assert [row["id"] for row in found] == [row["id"] for row in ROWS]
    assert [len(whole[f"{shard:05}.jsonl"].splitlines()) for shard in range(4)] == [3, 3, 3, 2]
    prior = load(model)
    for number, row in enumerate(found):
        assert row["template"] == ROWS[number]["prompt"] and row["seed"] == 5 + number and "prompt" not in row
        if number in (3, 4):
            assert "samples" not in row
            continue
        fills = prior.infill(row["template"], n=2, steps=3, seed=row["seed"])
        assert [sample["text"] for sample in row["samples"]] == fills.texts
        assert [sample["log_q"] for sample in row["samples"]] == pytest.approx(fills.log_q.tolist(), rel=1e-4)
        assert row["kind"] == "exact" and row["policy"] == "strided, 3 steps"
    assert "the text has no gap" in found[3]["error"] and "the model reads at most 512" in found[4]["error"]


def test_only_missing_shards_are_filled_again(
    model: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out := tmp_path / "out").mkdir()
    for name, content in whole.items():
        (out / name).write_bytes(content)
    (out / "00002.jsonl").unlink()
    (part := out / ".00002.jsonl.0123abcd.part").write_text("half a row")
    os.utime(part, (1, 1))
    filled: list[int] = []

    def watched(prior: Any, rows: list[Row], options: FillOptions) -> list[dict[str, Any]]:
        filled.extend(row.index for row in rows)
        return fill_rows(prior, rows, options)

    monkeypatch.setattr("textdiff.training.prediction.fill_rows", watched)
    assert run(options(model, out)) == 0
    assert sorted(filled) == [6, 7, 8] and files(out) == whole
    assert run(options(model, out, data_batch_size=1)) == 0 and len(filled) == 3
    (out / "2.jsonl").write_text("of somebody else")
    (out / "00002.jsonl").unlink()
    assert run(options(model, out)) == 0 and len(filled) == 6


def test_short_rows_are_not_filled_beside_long_ones(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = [1, 40, 3, 42, 2, 41]
    (tmp_path / "rows.txt").write_text("".join(f"Lily lost [gap:{count}] ball.\n" for count in slots))
    filled: list[list[int]] = []

    def watched(prior: Any, rows: list[Row], options: FillOptions) -> list[dict[str, Any]]:
        filled.append([row.index for row in rows])
        return fill_rows(prior, rows, options)

    monkeypatch.setattr("textdiff.training.prediction.fill_rows", watched)
    source = {"data_predict": [str(tmp_path / "rows.txt")], "data_batch_size": 3, "predictions_rows": 6}
    assert run(options(model, tmp_path / "out", **source)) == 0
    assert filled == [[0, 4, 2], [1, 5, 3]]
    assert [row["seed"] for row in records(tmp_path / "out")] == [5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fill": {"seed": 6}}, r"another run \(model.fill.seed was 5, is 6\): give another predictions.path"),
        ({"predictions_rows": 4}, r"\(predictions.rows was 3, is 4\)"),
    ],
    ids=str,
)
def test_a_folder_holds_one_run(
    changes: dict[str, Any], message: str, model: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.json").write_bytes(whole["settings.json"])
    with pytest.raises(UserError, match=message):
        run(options(model, tmp_path / "out", **changes))
    assert list(files(tmp_path / "out")) == ["settings.json"]


def test_one_file_is_written_when_all_is_done(model: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    assert run(options(model, tmp_path / "all.jsonl")) == 0
    one = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    many = [json.loads(line) for name in sorted(whole)[:-1] for line in whole[name].splitlines()]
    assert [row["template"] for row in one] == [row["template"] for row in many]
    texts = [[[sample["text"] for sample in row.get("samples", ())] for row in rows] for rows in (one, many)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fill": {"n": 0}}, "n is 0"),
        ({"fill": {"policy": "best"}}, "policy is 'best'"),
        ({"fill": {"top_p": 2.0}}, "top_p is 2.0"),
        ({"predictions_rows": 0}, "predictions.rows is 0"),
        ({"data_field": "text"}, "has no field 'text', only id, prompt: set data.field"),
        ({"model_checkpoint": "nowhere"}, "'nowhere' is no folder"),
    ],
    ids=str,
)
def test_mistakes_are_reported_before_anything_is_written(
    changes: dict[str, Any], message: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run(options(model, tmp_path / "out", **changes))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"holds .jsonl files and no settings\.json"):
        run(options(model, tmp_path / "out"))
    assert list(files(tmp_path / "out")) == ["mine.jsonl"]


def test_fill_in_the_middle_fills_as_it_is_shipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save(tiny(causal=True, fill_in_middle=True), tmp_path / "fim")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:3]))
    assert run(options(folder, tmp_path / "out", fill={"steps": None})) == 0
    expected = load(folder).infill(ROWS[1]["prompt"], n=2, seed=6).texts
    assert [sample["text"] for sample in records(tmp_path / "out")[1]["samples"]] == expected
    assert "shard 0: 3 rows" in capsys.readouterr().out


def test_the_config_fills_with_a_shipped_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    few = ["--model.fill.n", "1", "--model.fill.steps", "2", "--predictions.path", str(tmp_path / "out")]
    assert run(["predict", "--config", "configs/predict.yaml", "--trainer.accelerator", "cpu", *few]) == 0
    templates = (ROOT / "configs" / "templates.txt").read_text().splitlines()
    assert [row["template"] for row in records(tmp_path / "out")] == templates
    first = load("stories").infill(templates[0], steps=2, seed=0)
    assert records(tmp_path / "out")[0]["samples"][0]["text"] == first.texts[0]


def test_a_field_of_predictions_in_a_row_is_an_error() -> None:
    rows = [Row(0, "Tom [gap:2] her.", {"samples": 3}), Row(1, "Tom [gap:2] her.", {"id": 3})]
    clash, fine = fill_rows(tiny(), rows, FillOptions())
    assert "a field 'samples'" in clash["error"] and fine["samples"] and fine["id"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("there", [(), ("00000.jsonl", "00002.jsonl")], ids=["from the start", "what is left"])
def test_two_processes_write_what_one_writes(
    model: Path, whole: dict[str, bytes], there: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (to := tmp_path / "out").mkdir()
    for name in (*there, "settings.json"):
        (to / name).write_bytes(whole[name])
    two = ["--config", str(ROOT / "configs" / "strategy" / "ddp.yaml"), "--trainer.accelerator", "cpu"]
    assert status(start([*options(model, to), *two, "--trainer.devices", "2"])) == 0
    assert files(to) == whole
    assert "nothing is left to fill" not in capfd.readouterr().out


@pytest.mark.slow
def test_a_run_killed_at_five_moments_ends_byte_identical(model: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(ROWS[i % 3] | {"id": i}) + "\n" for i in range(400)))
    many = {"data_predict": [str(tmp_path / "rows.jsonl")], "data_batch_size": 4, "predictions_rows": 8}
    fill = {"n": 16, "steps": 4}
    assert status(start(options(model, tmp_path / "undisturbed", fill=fill, **many))) == 0
    expected = files(tmp_path / "undisturbed")
    assert len(expected) == 51

    rng, arguments, to = random.Random(0), options(model, tmp_path / "out", fill=fill, **many), tmp_path / "out"
    process, kept = start(arguments), list[int]()
    for _ in range(5):
        enough = len(list(to.glob("*.jsonl"))) + rng.randint(1, 6)
        wait_until(lambda enough=enough: len(list(to.glob("*.jsonl"))) >= enough, process)
        time.sleep(rng.uniform(0, 0.1))
        kill(process)
        kept.append(len(list(to.glob("*.jsonl"))))
        assert all(path.read_bytes() == expected[path.name] for path in to.glob("*.jsonl"))
        process = start(arguments)
    assert status(process) == 0
    assert kept == sorted(set(kept)) and kept[-1] < 50
    assert files(to) == expected


@pytest.mark.slow
def test_kills_while_shards_are_written_leave_nothing_behind(model: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(ROWS[i % 3] | {"id": i}) + "\n" for i in range(90)))
    many = {"data_predict": [str(tmp_path / "rows.jsonl")], "data_batch_size": 3, "predictions_rows": 3}
    assert run_forked(options(model, tmp_path / "undisturbed", **many)) == 0
    assert predict_through_kills(options(model, tmp_path / "out", **many), 8) >= 2  # a fast run ends before some
    assert files(tmp_path / "out") == files(tmp_path / "undisturbed") and not leftovers(tmp_path)


@pytest.mark.parametrize("place", ["folder.jsonl", "file", "file/out.jsonl", "file/out", "/dev/null/x.jsonl"])
def test_a_place_that_cannot_be_written_is_found_out_before_any_row_is_filled(
    place: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("textdiff.training.prediction.fill_rows", lambda *arguments: pytest.fail("a row was filled"))
    with pytest.raises(UserError, match=r"cannot be written|is a folder|is no folder") as caught:
        run([*options(model, tmp_path / "x"), "--predictions.path", str(tmp_path / place)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{", "null", '{"a": 1, "a": 2}'])
def test_damaged_settings_take_one_line(content: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.json").write_text(content)
    with pytest.raises(UserError, match=r"settings.json in .* is damaged"):
        run(options(model, tmp_path / "out"))
