"""What notebooks/experiments/fills/run.py calls a fault is one, and its shares are of the fills that it says."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tree import ROOT


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("fills", ROOT / "notebooks" / "experiments" / "fills" / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("fill", "wrong"),
    [
        ("She found it.", set()),
        ('"She found it!"', set()),
        ("She was very very happy.", set()),
        ("She found", {"open"}),
        ("She fund it.", {"unknown word"}),
        ("She found it it.", {"stutter"}),
        (" ", {"open", "empty"}),
    ],
)
def test_faults(script: Any, fill: str, wrong: set[str]) -> None:
    found = script.faults(fill, {"she", "was", "very", "happy", "found", "it"})
    assert {name for name, there in found.items() if there} == wrong


def test_it_measures(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    five = "Lily lost her red ball. She was sad. Tom saw it in the park. He gave it to Lily. They were happy.\n"
    short = "Lily lost her red ball. She was sad.\n"
    for name in ("train", "valid"):
        (tmp_path / name).with_suffix(".txt").write_text("<|endoftext|>\n".join((five, short, five)))
    monkeypatch.setattr(script, "SETTINGS", ((False, 1.0, 16, 1), (True, 0.6, None, 4)))
    table, shown = script.main(str(tmp_path / "train.txt"), str(tmp_path / "valid.txt"))
    assert list(table) == [
        "[gap], temperature 1.0, 16 steps",
        "length given, temperature 0.6, product with the AR baseline, one of 4 by weight",
    ]
    assert all(share in (0, 0.5, 1) for row in table.values() for share in row.values())
    assert len(shown) == 2 and all(text.endswith("*The author: Tom saw it in the park.*") for text in shown)
