"""Help, versions, streams, threads and imports of the command line."""

import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import textdiff.display.text
import textdiff.pretrained
from tests.helpers.commands import Run, feed
from textdiff import cli
from textdiff.cli.infill import NOTES
from textdiff.pretrained import load
from textdiff.samplers import POLICIES
from textdiff.text import Template


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_training_is_handed_on(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    got: list[list[str]] = []

    def hand(arguments: list[str]) -> int:
        got.append(arguments)
        return 3

    monkeypatch.setitem(sys.modules, "textdiff.training", types.ModuleType("training"))
    lightning = types.SimpleNamespace(run=hand)
    monkeypatch.setitem(sys.modules, "textdiff.cli.lightning", lightning)
    assert cli.main([command, "--config", "x.yaml"]) == 3
    assert got == [[command, "--config", "x.yaml"]]


def test_export_calls_the_library(monkeypatch: pytest.MonkeyPatch, run: Run, checkpoints: Path, tmp_path: Path) -> None:
    got: list[tuple[Any, ...]] = []
    training = types.SimpleNamespace(export=lambda *arguments: got.append(arguments))
    monkeypatch.setitem(sys.modules, "textdiff.training", training)
    out, _ = run("export", "last.ckpt", "--tokenizer", str(checkpoints / "stories"), "--to", str(tmp_path / "new"))
    ((checkpoint, tokenizer, folder),) = got
    assert (checkpoint, folder) == ("last.ckpt", str(tmp_path / "new"))
    assert tokenizer.get_vocab() == load(checkpoints / "stories").tokenizer.get_vocab()
    assert f"--checkpoint {tmp_path / 'new'}" in out


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["infill", "--help"], ["export", "-h"]])
def test_help_is_a_page_on_standard_output(run: Run, arguments: list[str]) -> None:
    out, err = run(*arguments)
    assert not err
    assert 8 < out.count("\n") < 80
    assert max(map(len, out.splitlines())) <= 100
    assert "textdiff" in out


def test_the_help_lists_every_command_and_policy(run: Run) -> None:
    out, _ = run("--help")
    assert re.findall(r"^  ([a-z]+)  ", out, re.MULTILINE) == list(cli.COMMANDS)
    out, _ = run("infill", "--help")
    assert set(POLICIES) <= set(out.split())


def test_the_examples_of_the_help_run(monkeypatch: pytest.MonkeyPatch, run: Run, tmp_path: Path) -> None:
    lines = re.findall(r"^  textdiff (infill .*)$", cli.HELP + NOTES, re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        feed(monkeypatch, b"Tom had a [gap:2]. He was happy.\n")
        run(*shlex.split(line.removesuffix(" < story.txt")))
    gaps = re.findall(r"^  (\[gap\S*) ", NOTES, re.MULTILINE)
    assert [str(Template.parse(f"a {gap}").gaps[0]) for gap in gaps] == ["[gap:1-32]", "[gap:12]", "[gap:4-16]"]


def test_version(run: Run) -> None:
    assert run("--version") == (f"textdiff {textdiff.__version__}\n", "")


HEAVY = {
    "lightning", "pytorch_lightning", "datasets", "matplotlib", "torchmetrics", "peft", "scipy", "sklearn", "sympy",
    "pandas", "pyarrow", "jsonargparse", "torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.onnx",
}  # fmt: skip
"""Together they take longer than torch, transformers and a fill."""


def test_filling_gaps_imports_nothing_heavy_that_it_does_not_use(checkpoints: Path) -> None:
    code = (
        "import sys; from textdiff.cli import main\n"
        f"status = main(['infill', 'a [gap:2] b', '--checkpoint', {str(checkpoints / 'stories')!r}, '--baseline'])\n"
        "print(*sys.modules)\nimport torch\n"
        "print('\\n', torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)))\nsys.exit(status)"
    )
    root = Path(textdiff.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("tensor([2.])\n")  # what is left out is there for whoever asks
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
    ids=["by itself", "as the user says", "as the user's policy says"],
)
def test_threads_soon_stop_spinning_for_each_other(given: dict[str, str], expected: str) -> None:
    """Set before torch is loaded: else, beside one busy core, a fill takes thirty times as long."""
    code = (
        "import os, sys, textdiff.cli; print('torch' in sys.modules)\n"
        "textdiff.cli.main(['--version']); print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    root = Path(textdiff.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=clean | given, capture_output=True, text=True, timeout=300
    )
    loaded, version, count = done.stdout.splitlines()
    assert (loaded, count) == ("False", expected) and version.startswith("textdiff ")
