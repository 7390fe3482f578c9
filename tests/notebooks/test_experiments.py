"""Each experiment has a page and a script, and the commands that scripts run are commands of this version."""

import importlib.util
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tree import ROOT
from textdiff.cli import COMMANDS, main

EXPERIMENTS = sorted(path for path in (ROOT / "notebooks" / "experiments").iterdir() if path.is_dir())
FILES = {"audits": 1, "comparisons": 2, "bench": 1, "amortization_grammar": 0}
"""Experiments that are runs of the command line, with the number of files that they take."""


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "notebooks" / "experiments" / name / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda path: path.name)
def test_an_experiment_has_a_page_and_a_script(folder: Path) -> None:
    assert (folder / "README.md").is_file() and (folder / "run.py").is_file()
    assert f"experiments/{folder.name}/README.md" in (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "files"), FILES.items(), ids=FILES)
def test_commands_and_their_options_exist(name: str, files: int, capsys: pytest.CaptureFixture[str]) -> None:
    for command, *options in script(name).commands(*("text.txt",) * files):
        assert command in COMMANDS
        configs = [value for option, value in pairwise(options) if option == "--config"]
        assert all((ROOT / config).is_file() for config in configs)
        if command not in ("fit", "compare"):
            main([command, "--help"])
            known = re.findall(r"--[a-z-]+", capsys.readouterr().out)
            assert {option for option in options if option.startswith("--")} <= set(known)
