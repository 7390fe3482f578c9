"""Each YAML that trains a posterior is read by the command line and trains a tiny network for two steps."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import PreTrainedTokenizerBase

from tests.helpers.tiny import save, tiny
from tests.helpers.training import includes, stories, write_config, write_corpus
from tests.helpers.tree import ROOT
from textdiff.cli.lightning import run
from textdiff.errors import UserError
from textdiff.pretrained import load
from textdiff.training import export
from textdiff.worlds import world

FOLDER = ROOT / "configs/amortization"
BASE, GRAMMAR = FOLDER / "base.yaml", FOLDER / "on-grammar.yaml"
CONFIGS = sorted(set(FOLDER.glob("*.yaml")) - {BASE, GRAMMAR, FOLDER / "inverse.yaml"})
"""One method each; `inverse.yaml` trains another module, see tests/training/test_configs.py."""


def names(path: Path) -> str:
    return path.stem


def layers(path: Path) -> list[Path]:
    """The files to give, in order: overlays come after `base.yaml`."""
    return [path] if "class_path: textdiff.amortization.PosteriorModule" in path.read_text() else [BASE, path]


def given(*paths: Path) -> list[str]:
    """Files as options of the command line."""
    return [option for path in paths for option in ("--config", str(path))]


def merged(*paths: Path) -> dict[str, Any]:
    """What files say together."""
    config: dict[str, Any] = {}
    for path in paths:
        config = overlaid(config, yaml.safe_load(path.read_text(encoding="utf-8")))
    return config


def overlaid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """A configuration with another one over it; lists and objects of another class are replaced."""
    both = {
        key: overlaid(below[key], value)
        for key, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(key), dict) and "class_path" not in value
    }
    return below | above | both


def world_of(config: dict[str, Any]) -> str | None:
    """The world that the learner was trained on; None for stories."""
    learner = config["model"]["init_args"]["learner"]
    folder = Path(learner).parts
    return folder[2] if folder[:2] == ("runs", "worlds") else "arithmetic" if learner == "arithmetic" else None


def tokenizer_of(config: dict[str, Any]) -> PreTrainedTokenizerBase | None:
    """That of the learner's world; None for stories."""
    name = world_of(config)
    return None if name is None else world(name).tokenizer


def small(folder: Path, config: dict[str, Any], **model: Any) -> list[str]:
    """Options that make a run small, its networks tiny."""
    tokenizer = tokenizer_of(config)
    learner = str(save(tiny(tokenizer), folder / "learner"))
    options: dict[str, Any] = {"learner": learner, "to": str(folder / "out"), "valid_draws": 8} | model
    data: dict[str, Any] = {"unseen": 2, "batch_size": 2}
    if config["model"]["init_args"].get("target") == "stories-ar":
        options["target"] = str(save(tiny(tokenizer, causal=True), folder / "target"))
    if tokenizer is None:
        text = str(write_corpus(folder / "text.txt", stories(8)))
        data |= {"train": [text], "valid": [text]}
    if "count" in config["data"]["init_args"]:
        data["count"] = min(4, config["data"]["init_args"]["count"])
    path = write_config(folder / "small.yaml", {"model": {"init_args": options}, "data": {"init_args": data}})
    trainer = {"max_steps": 2, "val_check_interval": 1, "accelerator": "cpu", "enable_progress_bar": "false"}
    return ["--config", str(path), *(f"--trainer.{name}={value}" for name, value in trainer.items())]


def test_there_are_configs() -> None:
    assert {
        "rtb",
        "rtb-lora",
        "reverse-kl",
        "distillation",
        "expert-iteration",
        "ar-target",
        "reward-words",
        "sub-balance",
        "integers",
        "modes",
        "rationale",
    } <= set(map(names, CONFIGS))


@pytest.mark.parametrize("path", CONFIGS, ids=names)
def test_a_config_says_how_it_is_run_and_is_understood(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = path.read_text(encoding="utf-8").splitlines()
    assert head[0].startswith("# ")
    assert any(line.startswith("#   textdiff fit --config") and str(path.relative_to(ROOT)) in line for line in head)
    assert run(["fit", *given(*layers(path)), "--print_config"]) == 0
    assert includes(yaml.safe_load(capsys.readouterr().out), merged(*layers(path)))


@pytest.mark.parametrize("path", [*CONFIGS, BASE, GRAMMAR], ids=names)
def test_a_config_names_no_text_that_a_user_lacks(path: Path) -> None:
    data = yaml.safe_load(path.read_text(encoding="utf-8")).get("data", {}).get("init_args", {})
    for source in (*data.get("train", ()), *data.get("valid", ())):
        assert source.startswith(("hub:", "world:")) or (ROOT / source).is_file()


def test_a_base_without_a_method_is_refused() -> None:
    with pytest.raises(UserError, match="method"):
        run(["fit", *given(BASE)])


QUICK = ("ar-target", "distillation", "integers")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow) for path in CONFIGS],
    ids=names,
)
def test_a_config_learns(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = merged(*layers(path))
    for source in config["data"]["init_args"]["train"]:
        if source.startswith("configs/"):
            (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / source).write_bytes((ROOT / source).read_bytes())
    monkeypatch.chdir(tmp_path)
    assert run(["fit", *given(*layers(path)), *small(tmp_path, config)]) == 0

    learner = load(tmp_path / "out")
    text = {None: "a[gap:2]b", "grammar": "Tom[gap:1].", "arithmetic": "1 + [gap:1] = ?"}.get(
        world_of(config), "#[gap:1]."
    )
    assert len(learner.given(text).sample(2, generator=0)) == 2
    rows = list(csv.DictReader(next(tmp_path.rglob("metrics.csv")).open()))
    metrics = {name: float(row[name]) for row in rows for name in row if row[name]}
    assert 0 <= metrics["unseen/ess"] <= 1 and metrics["seen/kl_at_least"] >= -1e-6
    for name in ("kl", "forward_kl"):
        assert (f"unseen/{name}" in metrics) == ("truth" in config["model"]["init_args"])


@pytest.mark.parametrize("method", [pytest.param("rtb", marks=pytest.mark.slow), "distillation"])
def test_a_method_learns_on_another_world(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`on-grammar.yaml` comes after the config of a method."""
    paths = [BASE, FOLDER / f"{method}.yaml", GRAMMAR]
    config = merged(*paths)
    config["data"]["init_args"]["count"] = 4
    monkeypatch.chdir(tmp_path)
    assert run(["fit", *given(*paths), *small(tmp_path, config)]) == 0
    assert len(load(tmp_path / "out").given("Tom lost a[gap:1].").sample(2, generator=0)) == 2


RTB = FOLDER / "rtb.yaml"


def options(folder: Path, **model: Any) -> list[str]:
    return [*given(*layers(RTB)), *small(folder, merged(*layers(RTB)), **model)]


def test_it_resumes_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four steps in one run, and two and two, leave the same learner."""
    monkeypatch.chdir(tmp_path)
    method = {"class_path": "textdiff.amortization.TrajectoryBalance", "init_args": {"draws": 4, "replayed": 2}}
    config = options(tmp_path, method=method)
    every = ["--model.init_args.warmup_steps", "0", "--model.init_args.final_lr", "1.0"]
    assert run(["fit", *config, *every, "--trainer.max_steps=4"]) == 0
    whole = load(tmp_path / "out").network.state_dict()
    assert run(["fit", *config, *every, "--trainer.max_steps=2"]) == 0
    stopped = load(tmp_path / "out").network.state_dict()
    last = next(tmp_path.rglob("last.ckpt"))
    assert run(["fit", *config, *every, "--trainer.max_steps=4", "--ckpt_path", str(last)]) == 0
    resumed = load(tmp_path / "out").network.state_dict()
    assert any(not whole[name].equal(stopped[name]) for name in whole)
    assert all(whole[name].equal(resumed[name]) for name in whole)


def test_the_target_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["fit", *options(tmp_path)]) == 0
    content = torch.load(next(tmp_path.rglob("last.ckpt")), weights_only=True)
    assert {name.split(".")[0] for name in content["state_dict"]} == {"network", "method"}


def test_a_learner_can_be_exported_and_an_adapter_need_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["fit", *options(tmp_path)]) == 0
    last = next(tmp_path.rglob("last.ckpt"))
    export(last, load(tmp_path / "out").tokenizer, tmp_path / "exported", torch.float32)
    assert load(tmp_path / "exported").network.head.weight.equal(load(tmp_path / "out").network.head.weight)
    adapter = {"class_path": "textdiff.models.LoRA", "init_args": {"rank": 2}}
    assert run(["fit", *options(tmp_path, adapter=adapter, to=str(tmp_path / "adapter"))]) == 0
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "SHA256SUMS",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    with pytest.raises(UserError, match="is of an adapter"):
        export(last, load(tmp_path / "out").tokenizer, tmp_path / "exported")
    with pytest.raises(UserError, match="does not fit"):
        run(["fit", *options(tmp_path), "--ckpt_path", str(last)])


def test_validate_evaluates_the_initial_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["validate", *options(tmp_path)]) == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learner": "nowhere"}, "'nowhere' is no folder"),
        ({"target": "world:nowhere"}, "no world 'nowhere'"),
        ({"truth": "world:hmm^=2"}, "tilts no world"),
        ({"policy": {"class_path": "textdiff.samplers.RandomOrder", "init_args": {"steps": 2}}}, "order at random"),
        ({"valid_draws": 1}, "valid_draws is 1"),
        ({"method": {"class_path": "textdiff.amortization.ReverseKL", "init_args": {"draws": 1}}}, "needs 2 or more"),
    ],
)
def test_a_mistake_takes_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as raised:
        run(["fit", *options(tmp_path, **changes)])
    assert "\n" not in str(raised.value)


def test_predict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"predict fills templates with .*PredictionModule"):
        run(["predict", *options(tmp_path)])


def test_sources_may_be_given_by_class(capsys: pytest.CaptureFixture[str]) -> None:
    source = {"class_path": "textdiff.data.WorldTexts", "init_args": {"world": "hmm", "count": 5}}
    mixed = yaml.safe_dump([source, "world:hmm:3:1"], default_flow_style=True)
    assert run(["fit", *given(*layers(RTB)), "--data.train", mixed, "--print_config"]) == 0
    train = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["train"]
    assert train == [{**source, "init_args": source["init_args"] | {"seed": 0}}, "world:hmm:3:1"]


def test_without_text_the_option_to_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no source of text was given: set data\.train to") as raised:
        run(["fit", *options(tmp_path), "--data.train", "[]"])
    assert "\n" not in str(raised.value)
