"""`textdiff predict` on rows as users have them: a bad row has an error of its own, and the others are filled."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from textdiff.cli import main

GOOD = '{"id": "001", "text": "Tom [gap:2]."}'
BAD = {
    "lists": ('{"text": "a [gap:1]", "more": ' + "[" * 500 + "]" * 500 + "}", "nested more than 100 deep"),
    "abyss": ('{"text": "a [gap:1]", "more": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested more than 100 deep"),
    "objects": ('{"a":' * 99_999 + "1" + "}" * 99_999, "nested more than 100 deep"),
    "digits": ('{"text": "a [gap:1]", "n": ' + "7" * 9999 + "}", "a number of 9999 digits"),
    "large": ('{"text": "a [gap:1]", "n": 1e999}', "a number that is too large"),
    "nan": ('{"text": "a [gap:1]", "n": NaN}', "NaN, which is no JSON"),
    "half": ('{"text": "a [gap:1] \\ud800"}', "half of a character"),
    "twice": ('{"text": "a [gap:1]", "text": "b [gap:1]"}', "two values of 'text'"),
    "list": ('["a [gap:1]"]', "no JSON object"),
    "broken": ('{"text": "a [gap:1]"', "no JSON"),
    "latin": (b'{"text": "caf\xe9 [gap:1]"}', "not UTF-8"),
    "number": ('{"text": 7}', "holds 7, expected text"),
    "missing": ('{"id": 1}', "no field 'text', only id"),
}


def predict(path: Path, folder: Path, *options: str) -> list[dict[str, Any]]:
    """The rows that are written, each strict JSON."""
    out = folder / "filled.jsonl"
    few = ["--model.fill.n", "1", "--model.fill.steps", "2", "--trainer.accelerator", "cpu", "--predictions.path"]
    arguments = [
        "predict",
        "--config",
        "predict",
        f"--data.predict={json.dumps([str(path)])}",
        *few,
        str(out),
        *options,
    ]
    assert main(arguments) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return [json.loads(line, parse_constant=refuse) for line in out.read_text(encoding="utf-8").splitlines()]


def test_bad_rows_have_errors_and_the_others_are_filled(tmp_path: Path) -> None:
    lines = [content if isinstance(content, bytes) else content.encode() for content, _ in BAD.values()]
    path = tmp_path / "rows[1].jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join([*lines[:3], GOOD.encode(), *lines[3:], GOOD.encode()])))
    rows = predict(path, tmp_path)
    good = rows.pop(3), rows.pop()
    assert [row["id"] for row in good] == ["001", "001"] and all(row["samples"] for row in good)
    for row, (name, (_, message)) in zip(rows, BAD.items(), strict=True):
        assert message in row["error"] and "samples" not in row and len(row["error"]) <= 700, name


def test_cells_of_a_table_stay_as_they_are(tmp_path: Path) -> None:
    (path := tmp_path / "rows.csv").write_text('id,flag,text\n001,TRUE,"Tom [gap:1], he"\nNA,,"a [gap:1]"\nx,"y"z,b\n')
    first, second, third = predict(path, tmp_path)
    assert (first["id"], first["flag"], second["id"], second["flag"]) == ("001", "TRUE", "NA", "")
    assert "line 4 of" in third["error"]


def test_a_file_of_which_nothing_can_be_filled_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path := tmp_path / "rows.jsonl").write_text("".join(f"{content}\n" for content, _ in list(BAD.values())[:3]))
    assert (
        main(
            [
                "predict",
                "--config",
                "predict",
                f"--data.predict={json.dumps([str(path)])}",
                "--trainer.accelerator",
                "cpu",
            ]
        )
        == 2
    )
    assert "line 1 of" in (error := capsys.readouterr().err) and len(error.splitlines()) == 1
