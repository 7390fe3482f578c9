"""Commands run against tiny checkpoints, without a terminal."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import textdiff.display.text
import textdiff.pretrained
from tests.helpers.commands import Run
from tests.helpers.tiny import save, tiny
from textdiff import cli


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `stories`, its AR baseline `stories-ar` and `stories-fim`."""
    folder = tmp_path_factory.mktemp("checkpoints")
    save(tiny(), folder / "stories")
    save(tiny(causal=True), folder / "stories-ar")
    save(tiny(causal=True, fill_in_middle=True), folder / "stories-fim")
    save(tiny(), folder / "arithmetic")
    return folder


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, checkpoints: Path) -> None:
    """No terminal, wide lines, and tiny models in the place of the shipped ones."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(textdiff.pretrained, "shipped", lambda name: checkpoints / name)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command and returns what it wrote to standard output and standard error."""

    def run(*arguments: str, status: int = 0) -> tuple[str, str]:
        assert cli.main(arguments) == status
        out, err = capsys.readouterr()
        return out, err

    return run


@pytest.fixture
def answer(run: Run) -> Callable[..., dict[str, Any]]:
    """Runs `textdiff infill --json` and returns the object that it printed."""

    def answer(*arguments: str) -> dict[str, Any]:
        out, err = run("infill", "--json", *arguments)
        assert not err
        parsed: dict[str, Any] = json.loads(out)
        return parsed

    return answer
