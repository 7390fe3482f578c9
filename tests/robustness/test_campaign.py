"""The campaign finds no fault: some hundred cases by default, all of it where slow tests run."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.campaign.case import FAULTS
from tests.helpers.campaign.runner import KINDS
from tests.helpers.processes import captured
from tests.helpers.tree import ROOT

SCRIPT = ROOT / "notebooks" / "experiments" / "robustness" / "run.py"
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and pidfd")
QUICK = (
    "adapters", "arguments", "calls", "canvases", "checkpoints", "constraints", "environment", "regular expressions",
    "streams", "templates",
)  # fmt: skip


def results(folder: Path, *options: str) -> dict[str, Any]:
    """What the script of the experiment writes."""
    done = captured([sys.executable, str(SCRIPT), "--to", str(folder), *options], seconds=900)
    assert (folder / "results.json").exists(), done.stdout + done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "results.json"]
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    assert (done.returncode == 1) == bool(found["faults"])
    return found


def faults(found: dict[str, Any]) -> str:
    return "\n".join(
        f"{one['kind']} {one['index']}, {one['outcome']}: {one['what']}: {one['why']}" for one in found["faults"]
    )


def test_a_sample_finds_no_fault(tmp_path: Path) -> None:
    found = results(tmp_path, "--cases", "120", "--jobs", "1", "--kinds", *QUICK)
    assert not found["faults"], faults(found)
    whole = found["table"]["all"]
    assert whole["cases"] > 90 and whole["done"] > 20 and whole["refused"] > 20
    assert f"| all | {whole['cases']} |" in (tmp_path / "README.md").read_text()


@pytest.mark.slow
def test_a_part_of_every_kind_finds_no_fault(tmp_path: Path) -> None:
    found = results(tmp_path, "--seed", "11", "--cases", "1500", "--kill-share", "0.1")
    assert not found["faults"], faults(found)
    assert found["table"]["all"]["cases"] >= 1_400 and set(found["table"]) == {*KINDS, "all"}


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("robustness", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_interrupted_run_goes_on_where_it_was(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carried: list[Any] = []

    def campaign(todo: Any, seed: int, jobs: int) -> Any:
        for kind, index in todo:
            if len(carried) == 2:
                carried.append("interrupted")
                raise KeyboardInterrupt
            carried.append((kind, index))
            yield script.Outcome(kind, index, "", "done", "", 0.0, 0.0)

    monkeypatch.setattr(script, "campaign", campaign)
    options = ["--cases", "16", "--kinds", "calls", "canvases", "--to", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        script.main(options)
    assert (tmp_path / "unfinished.jsonl").exists()
    assert script.main(options) == 0
    assert len(carried) == len(set(carried)) and not (tmp_path / "unfinished.jsonl").exists()
    assert json.loads((tmp_path / "results.json").read_text())["table"]["all"]["done"] == len(carried) - 1


def test_the_page_that_is_here_is_of_the_figures_that_are_here(script: Any) -> None:
    results, text = SCRIPT.with_name("results.json"), SCRIPT.with_name("README.md").read_text(encoding="utf-8")
    assert script.BEGIN in text and script.END in text
    if results.exists():
        found = json.loads(results.read_text())
        assert script.page(found) in text and not any(found["table"]["all"][name] for name in FAULTS)
