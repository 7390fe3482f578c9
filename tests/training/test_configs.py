"""Every YAML of `configs/` for Lightning is parsed by the command line, and those for one process train for two steps.

Those of `configs/compare` are tested in tests/evaluation/test_compare.py, those that learn a posterior in
tests/amortization/test_configs.py, and those that convert a model in test_fine_tuning.py.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.training import corpora, includes, run_config, write_config
from tests.helpers.tree import ROOT
from textdiff.cli.lightning import run
from textdiff.errors import UserError

CONFIGS = sorted(
    path
    for path in ROOT.glob("configs/**/*.yaml")
    if path.parent.name not in ("compare", "amortization") or path.name == "inverse.yaml"
)
CONVERT = ROOT / "configs" / "convert"


def names(path: Path) -> str:
    return str(path.relative_to(ROOT / "configs"))


def layers(path: Path, folder: Path) -> list[str]:
    """The options that read a file; an overlay comes on top of a complete configuration."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    complete = {"trainer", "model", "data"} <= content.keys()
    if complete:
        return ["--config", str(path)]
    adapts = path == CONVERT / "lora.yaml"
    base = CONVERT / "full.yaml" if adapts else write_config(folder / "base.yaml", run_config(folder))
    return ["--config", str(base), "--config", str(path)]


def test_there_are_configs() -> None:
    assert {"custom-text.yaml", "streaming.yaml", "predict.yaml", "strategy/ddp.yaml", "strategy/fsdp.yaml"} <= set(
        map(names, CONFIGS)
    )


@pytest.mark.parametrize("path", CONFIGS, ids=names)
def test_a_config_says_how_it_is_run(path: Path) -> None:
    head = path.read_text(encoding="utf-8").splitlines()
    assert head[0].startswith("# ")
    assert any(line.startswith("#   textdiff ") and names(path) in line for line in head)


@pytest.mark.parametrize("path", CONFIGS, ids=names)
def test_a_complete_config_names_the_class_of_its_model(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if {"trainer", "model", "data"} <= content.keys():
        assert content["model"]["class_path"].startswith("textdiff.training.")


@pytest.mark.parametrize("path", CONFIGS, ids=names)
def test_a_config_is_parsed(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "predict" if path.name == "predict.yaml" else "fit"
    assert run([command, *layers(path, tmp_path), "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)

    assert not includes(printed, {"data": {"length": -1}})
    assert includes(printed, yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "path",
    [path for path in CONFIGS if path.parent.name not in ("strategy", "convert") and path.name != "predict.yaml"],
    ids=names,
)
def test_a_config_trains(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = corpora(tmp_path)
    rows = [{"text": text} for text in Path(files["train"]).read_text().split("<|endoftext|>")]
    monkeypatch.setattr("datasets.load_dataset", lambda *arguments, **options: rows)
    monkeypatch.chdir(tmp_path)
    small: dict[str, Any] = {
        "trainer": {
            "max_steps": 2,
            "val_check_interval": 1,
            "limit_val_batches": 1,
            "num_sanity_val_steps": 0,
            "accelerator": "cpu",
        },
        "model": {
            "init_args": {
                "network": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
                "compile": False,
                "init_from": None,
            },
        },
        "data": {
            "valid": [files["valid"]],
            "tokenizer": "tokenizer",
            "cache": "cache",
            "vocab_size": 300,
            "gaps": 2,
            "gap_length": 8,
        }
        | {"length": 96, "batch_size": 2, "reserve": 8, "workers": 0},
    }
    if path.name != "streaming.yaml":
        small["data"]["train"] = [files["train"]]
    options = [*layers(path, tmp_path), "--config", str(write_config(tmp_path / "small.yaml", small))]
    assert run(["fit", *options, "--trainer.enable_progress_bar", "false"]) == 0
    assert [made.name for made in tmp_path.rglob("last.ckpt")]


@pytest.mark.parametrize("path", CONFIGS, ids=names)
def test_a_config_names_no_file_of_another_machine(path: Path) -> None:
    data = yaml.safe_load(path.read_text(encoding="utf-8")).get("data", {})
    for source in (*data.get("train", ()), *data.get("valid", ()), *data.get("predict", ())):
        assert source.startswith(("hub:", "world:", "prior:")) or (ROOT / source).is_file()


@pytest.mark.parametrize("name", ["custom-text.yaml", "gsm8k.yaml", "fairytale-questions.yaml"])
def test_missing_text_takes_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no source of text") as caught:
        run(["fit", "--config", str(ROOT / "configs" / name), "--trainer.accelerator", "cpu"])
    assert "\n" not in str(caught.value)
