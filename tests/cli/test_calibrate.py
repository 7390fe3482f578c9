"""`textdiff calibrate` on the texts of a world."""

from pathlib import Path

import pytest

from tests.helpers.tiny import save, tiny
from textdiff import cli
from textdiff.worlds import world


def test_a_seed_does_not_change_the_length_of_the_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save(tiny(world("hmm").tokenizer), tmp_path / "prior")
    words = ["calibrate", "--world", "hmm", "--checkpoint", str(folder), "--gaps", "8", "--gap-length", "4"]
    assert cli.main([*words, "--seed", "3"]) == 0
    assert capsys.readouterr().out.startswith("| tokens apart |") and (folder / "dependence.json").is_file()
