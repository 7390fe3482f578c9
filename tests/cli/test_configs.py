"""Configurations that come with textdiff are found by their names, wherever a command is run."""

from pathlib import Path

import pytest

from tests.helpers.tree import ROOT
from textdiff.cli import main
from textdiff.cli.checkpoints import baseline_folder
from textdiff.cli.configs import with_configs
from textdiff.data.sources import documents
from textdiff.errors import UserError
from textdiff.pretrained.packaged import packaged
from textdiff.pretrained.shipped import locate

CONFIGS = sorted(ROOT.glob("configs/**/*.yaml"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which commands are run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_is_found_by_its_name_and_by_its_path_in_the_repository(path: Path) -> None:
    name = path.relative_to(ROOT / "configs").with_suffix("").as_posix()
    command = "compare" if name.startswith("compare/") else "fit"
    for given in (name, f"{name}.yaml", f"configs/{name}.yaml", name.removeprefix("compare/")):
        assert with_configs(["--config", given], command) == ["--config", str(path)]
        assert with_configs([command, f"--config={given}", "--n", "2"], command)[1:] == [f"--config={path}", "--n", "2"]


def test_a_file_wins_over_a_name_and_a_folder_does_not(elsewhere: Path) -> None:
    (elsewhere / "stories").mkdir()
    assert with_configs(["--config", "stories"], "fit") == ["--config", str(ROOT / "configs/stories.yaml")]
    (elsewhere / "gsm8k").write_text("a: 1")
    assert with_configs(["--config", "gsm8k"], "fit") == ["--config", "gsm8k"]
    assert with_configs(["--config", "~/gsm8k"], "fit") == ["--config", str(elsewhere / "gsm8k")]


@pytest.mark.parametrize("given", ["trainer: {max_steps: 1}", "{}", "trainer:\n  max_steps: 1\n"])
def test_yaml_itself_is_left_as_it_is(given: str) -> None:
    assert with_configs(["--config", given], "fit") == ["--config", given]


@pytest.mark.parametrize("given", ["storys", "nowhere/mine.yaml", "../x", ".", "a" * 200, "configs/", "/"])
@pytest.mark.parametrize(("command", "some"), [("fit", ("custom-text", "convert/{full,lora}")), ("compare", ("walk",))])
def test_an_unknown_name_lists_those_there_are(given: str, command: str, some: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="there is no configuration") as caught:
        with_configs(["--config", given], command)
    assert all(name in str(caught.value) for name in some) and len(str(caught.value)) <= 700


def test_commands_take_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", "custom-text", "--print_config"]) == 0
    assert "SentenceGaps" in capsys.readouterr().out
    for command, name in (("fit", "custom-texts"), ("compare", "storys")):
        assert main([command, "--config", name]) in (1, 2)
        assert f"there is no configuration '{name}'" in capsys.readouterr().err


def test_what_a_configuration_names_is_found_as_well(elsewhere: Path) -> None:
    for source in ("configs/templates.txt", "configs/amortization/integers.txt"):
        assert list(documents([source])) == list(documents([str(ROOT / source)]))
    assert locate("checkpoints/stories") == ROOT / "checkpoints/stories"
    assert baseline_folder("checkpoints/stories") == str(ROOT / "checkpoints/stories-ar")
    (elsewhere / "configs").mkdir()
    (elsewhere / "configs/templates.txt").write_text("mine")
    assert list(documents(["configs/templates.txt"])) == ["mine"]
    for unknown in ("configs/none.txt", "configs/../README.md", "textdiff/py.typed", "configs", ""):
        assert packaged(unknown) == Path(unknown)
