"""The experiments on learned posteriors measure what they say."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.training import stories, write_corpus
from tests.helpers.tree import ROOT


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "notebooks" / "experiments" / name / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_untrained_learner_scores_as_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = script("reward_words")
    monkeypatch.setattr(experiment, "QUERIES", 2)
    monkeypatch.setattr(experiment, "DRAWS", 8)
    config = yaml.safe_load(experiment.CONFIG.read_text(encoding="utf-8"))
    text = str(write_corpus(tmp_path / "text.txt", stories(8)))
    config["model"]["init_args"] |= {"to": "stories"}
    config["data"]["init_args"] |= {"train": [text], "valid": [text], "gap_length": 4, "margin": 2}
    table = experiment.main(config)
    assert list(table) == ["stories", "learner"] and table["stories"] == table["learner"]
    found = table["stories"]
    assert 0 <= found["with a word"] <= found["with a word, by weight"] <= 1 and 0 < found["ess"] <= 1
    assert found["log evidence"] >= 0 and len(found["fills"]) == 2


def test_proposals_for_the_baseline_are_measured_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = script("ar_target")
    for name, value in (("GAPS", 2), ("DRAWS", 4), ("PRODUCTS", ((1.0, 0.6),))):
        monkeypatch.setattr(experiment, name, value)
    text = str(write_corpus(tmp_path / "text.txt", stories(8, words=(60, 80))))
    table = experiment.main(text, "stories")
    names = ["stories", "stories with the expert, share 1.0, tilt 0.6"]
    assert list(table) == ["stories-ar", *names, *(name.replace("stories", "inverse") for name in names)]
    assert all(1 <= row["ess"] <= 4 and row["kl at least"] >= 0 for row in table.values())
    assert [table[name] for name in names] == [table[name.replace("stories", "inverse")] for name in names]
