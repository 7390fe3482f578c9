"""notebooks/amortization/happy.py says of a learner that has learnt nothing what it says of its target."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from tests.training.tiny import stories, write_corpus
from tests.tree import ROOT


def test_it_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("happy", ROOT / "notebooks" / "amortization" / "happy.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "QUERIES", 2)
    monkeypatch.setattr(script, "DRAWS", 8)
    config = yaml.safe_load(script.CONFIG.read_text(encoding="utf-8"))
    text = str(write_corpus(tmp_path / "text.txt", stories(8)))
    config["model"]["init_args"] |= {"to": "stories"}
    config["data"]["init_args"] |= {"train": [text], "valid": [text], "gap_length": 4, "margin": 2}
    table = script.main(config)
    assert list(table) == ["stories", "learner"] and table["stories"] == table["learner"]
    found = table["stories"]
    assert 0 <= found["happy"] <= found["happy by weight"] <= 1 and 0 < found["ess"] <= 1
    assert found["log evidence"] >= 0 and len(found["fills"]) == 2
