"""The four Lightning commands: mistakes take one line, a run says little, predictions keep their order."""

import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.plugins.io import TorchCheckpointIO

from tests.helpers.processes import captured
from tests.helpers.training import metrics, run_config, stories, write_config
from tests.helpers.tree import ROOT
from textdiff.amortization import PosteriorModule, QueryDataModule
from textdiff.cli import lightning as lightning_cli
from textdiff.cli.lightning import run
from textdiff.errors import UserError
from textdiff.pretrained import load
from textdiff.text import load_tokenizer, train_tokenizer
from textdiff.training import export


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    assert run(["fit", "--config", str(write_config(folder / "fit.yaml", run_config(folder, max_steps=2)))]) == 0
    return folder


def changed(folder: Path, changes: dict[str, Any], to: Path) -> list[str]:
    """The options that read the configuration of `folder` with some keys (a.b.c) changed or, if None, left out."""
    config = yaml.safe_load((folder / "fit.yaml").read_text())
    for key, value in changes.items():
        *way, last = key.split(".")
        part = config
        for step in way:
            part = part[int(step)] if isinstance(part, list) else part.setdefault(step, {})
        part[last] = value
        if value is None:
            del part[last]
    return ["--config", str(write_config(to / "changed.yaml", config))]


MISTAKES = {
    "missing file": ({"data.train": ["nowhere.txt"]}, "no text file at 'nowhere.txt'"),
    "missing held-out file": ({"data.valid": ["nowhere.txt"]}, "no text file at 'nowhere.txt'"),
    "misspelt key": (
        {"model.init_args.network.hiden_size": 3},
        "does not accept option 'hiden_size'",
    ),
    "misspelt section": ({"modle.seed": 3}, "does not accept option 'modle.seed'"),
    "misspelt option of a class": (
        {"trainer.callbacks.0.init_args.decya": 0.3},
        "EMAWeightAveraging': Option 'decya' is not accepted",
    ),
    "misspelt class": (
        {"trainer.callbacks.0.class_path": "lightning.pytorch.callbacks.EMA"},
        "module 'lightning.pytorch.callbacks' has no attribute 'EMA'",
    ),
    "misspelt class of ours": (
        {"data.corruption": "textdiff.data.SpanGap"},
        "'textdiff.data' has no attribute 'SpanGap'",
    ),
    "wrong type": ({"data.batch_size": "two"}, '"data".*"batch_size": Expected a <class \'int\'>. Got value: two'),
    "wrong choice": ({"trainer.precision": "bf17"}, "trainer.precision.*bf16-mixed.*Given value: bf17"),
    "wrong share": (
        {"data.corruption": {"class_path": "textdiff.data.SpanGaps", "init_args": {"share_null": 2}}},
        "share_null is 2.0, expected a share",
    ),
    "wrong shape": ({"model.init_args.network.hidden_size": 17}, "hidden_size 17 is not a multiple"),
    "missing key": ({"data.tokenizer": None}, "data.tokenizer"),
    "no tokenizer in a folder": ({"data.tokenizer": "."}, "no tokenizer could be read from '.'"),
    "no end": ({"trainer.max_steps": None}, "set trainer.max_steps"),
    "validation by share": ({"trainer.val_check_interval": 0.5}, "val_check_interval"),
    "no such device": ({"trainer.accelerator": "tpu"}, "trainer: .*tpu|trainer: .*xla"),
    "misspelt device": ({"trainer.accelerator": "cqu"}, "trainer: .*invalid accelerator name.*'cqu'"),
    "misspelt strategy": ({"trainer.strategy": "dpp"}, "trainer: .*'dpp'"),
    "causal network on gaps": ({"model.init_args.network.causal": True}, "model.network.causal is True"),
    "missing checkpoint": ({"model.init_args.init_from": "nowhere"}, "nowhere"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_takes_one_line(
    mistake: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, message = MISTAKES[mistake]
    options = changed(finished, changes, tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        run(["fit", *options])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--config", "broken.yaml"], "'broken.yaml' cannot be read: line 2, column 6: did not find expected"),
        (
            ["--config", "fit.yaml", "--data.trian", "x"],
            "Option 'trian' is not accepted; `textdiff fit --data.help TextDataModule` lists the options",
        ),
        (["--config", "fit.yaml", "--ckpt_path", "nowhere.ckpt"], "no checkpoint at 'nowhere.ckpt'"),
        (["--config", "fit.yaml", "--ckpt_path", "broken.yaml"], "'broken.yaml' is no checkpoint of a textdiff run"),
        (
            ["--config", "fit.yaml", "--ckpt_path", "run/last.ckpt", "--model.network.hidden_size", "32"],
            "does not fit .model.network.hidden_size was 16, is 32",
        ),
        (["--config", "fit.yaml", "--ckpt_path", "run/last.ckpt", "--data.tokenizer", "other"], "data.tokenizer was"),
    ],
    ids=lambda value: " ".join(value[2:]) if isinstance(value, list) else "",
)
def test_a_mistake_on_the_command_line_takes_one_line(
    options: list[str], message: str, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    Path("broken.yaml").write_text("trainer: [a\nmodel: b")
    if not Path("other").exists():
        train_tokenizer(stories(9, seed=4), 300).save_pretrained("other")
    with pytest.raises(UserError, match=message) as caught:
        run(["fit", *options])
    assert "\n" not in str(caught.value)


def test_a_checkpoint_with_other_parameters_is_refused(finished: Path, tmp_path: Path) -> None:
    content = torch.load(finished / "run" / "last.ckpt", weights_only=True)
    content["state_dict"].popitem()
    torch.save(content, tmp_path / "older.ckpt")
    with pytest.raises(UserError, match="another version of textdiff"):
        run(["validate", "--config", str(finished / "fit.yaml"), "--ckpt_path", str(tmp_path / "older.ckpt")])


def test_an_unknown_command_is_refused() -> None:
    for arguments in (["fiit", "--config", "x"], []):
        with pytest.raises(UserError, match="expected fit, validate, test, predict"):
            run(arguments)


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "--help"]) == 0
    assert "--data.help TextDataModule" in " ".join(capsys.readouterr().out.split())
    assert run(["fit", "--data.help", "TextDataModule"]) == 0
    assert "--data.streaming" in capsys.readouterr().out


def test_a_class_that_a_configuration_names_keeps_its_own_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    """The default classes, for pretraining, have arguments of the same names and other values."""
    model = "--model=textdiff.amortization.PosteriorModule"
    data = "--data=textdiff.amortization.QueryDataModule"
    needed = ["--model.learner=stories", "--model.method=textdiff.amortization.ReverseKL"]
    assert run(["fit", model, data, *needed, "--print_config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    for part, given in (("model", PosteriorModule), ("data", QueryDataModule)):
        init_args, parameters = config[part]["init_args"], inspect.signature(given.__init__).parameters
        for name in ("warmup_steps", "final_lr", "gap_length", "batch_size"):
            assert name not in parameters or init_args[name] == parameters[name].default
    assert config["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 3e-4


def test_errors_of_ours_keep_their_traceback(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr("textdiff.training.TrainingModule.training_step", broken)
    with pytest.raises(ValueError, match="a defect") as caught:
        run(["fit", "--config", str(finished / "fit.yaml")])
    assert not isinstance(caught.value, UserError)


@pytest.mark.parametrize("command", ["validate", "test"])
def test_a_checkpoint_is_measured(
    command: str, finished: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    changes = {"trainer.logger.init_args.save_dir": str(tmp_path), "trainer.limit_test_batches": 1}
    options = changed(finished, changes, tmp_path)
    assert run([command, *options, "--ckpt_path", str(finished / "run" / "last.ckpt")]) == 0
    (figures,) = metrics(tmp_path)
    name = {"validate": "valid", "test": "test"}[command]
    fitted = [row for row in metrics(finished) if "valid/gap_nats" in row][-1]
    assert figures[f"{name}/gap_nats"] == pytest.approx(fitted["valid/gap_nats"], rel=1e-5)
    assert not [
        str(w.message) for w in recwarn if issubclass(w.category, UserWarning) and "Jsonarg" not in w.category.__name__
    ]


def test_predictions_keep_the_order_of_the_templates(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["The dog [gap:3] and was happy.", "A [gap:2] cat [gap:1-4] ran.", "The girl [gap] sad."]
    (tmp_path / "a.txt").write_text("\n".join(lines[:2]))
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": lines[2]}))
    options = changed(finished, {"data.predict": [str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl")]}, tmp_path)
    monkeypatch.chdir(tmp_path)
    more = ["--model", "PredictionModule", "--model.checkpoint", str(finished / "run" / "last.ckpt")]
    more += ["--model.fill.n", "2", "--model.fill.steps", "4"]
    assert run(["predict", *options, *more]) == 0
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [row["template"] for row in rows] == lines

    export(finished / "run" / "last.ckpt", load_tokenizer(finished / "tokenizer"), tmp_path / "model", torch.float32)
    prior = load(tmp_path / "model")
    for number, row in enumerate(rows):
        fills = prior.infill(lines[number], n=2, steps=4, seed=number)
        assert [sample["text"] for sample in row["samples"]] == fills.texts
        assert [sample["log_q"] for sample in row["samples"]] == pytest.approx(fills.log_q.tolist(), rel=1e-4)
        assert row["kind"] == "exact" and "4" in row["policy"]
    assert len(rows[1]["samples"][0]["fills"]) == 2

    path = ["--predictions.path", "elsewhere/fills.jsonl"]
    assert run(["predict", *options, *more, *path]) == 0
    assert (tmp_path / "elsewhere" / "fills.jsonl").read_text() == (tmp_path / "predictions.jsonl").read_text()


def test_predict_without_templates_is_refused() -> None:
    with pytest.raises(UserError, match="no source of text"):
        run(["predict", "--trainer.accelerator", "cpu"])


@pytest.mark.parametrize("command", ["validate", "test"])
def test_random_weights_are_not_measured(command: str, finished: Path) -> None:
    with pytest.raises(UserError, match=f"{command} needs trained weights: give --ckpt_path FILE"):
        run([command, "--config", str(finished / "fit.yaml")])


def test_predict_takes_the_run_as_its_model(finished: Path) -> None:
    config, last = str(finished / "fit.yaml"), str(finished / "run" / "last.ckpt")
    with pytest.raises(UserError, match=r"PredictionModule, not .*PretrainingModule: give the checkpoint"):
        run(["predict", "--config", config, "--ckpt_path", last])
    with pytest.raises(UserError, match=r"takes the checkpoint of a run as model\.checkpoint"):
        run(["predict", "--ckpt_path", last])
    with pytest.raises(UserError, match=r"data\.tokenizer is not given"):
        run(["predict", "--model.checkpoint", last])


def test_a_user_may_choose_bar_and_files(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []
    monkeypatch.setattr(lightning_cli.Trainer, "fit", lambda trainer, **arguments: built.append(trainer))
    options = ["fit", "--config", str(finished / "fit.yaml"), "--trainer.enable_progress_bar", "true"]
    run(options)
    run([*options, "--trainer.plugins", "lightning.pytorch.plugins.io.TorchCheckpointIO"])
    run([*options, "--trainer.callbacks", "[{class_path: lightning.pytorch.callbacks.TQDMProgressBar}]"])
    bars = [type(trainer.progress_bar_callback).__name__ for trainer in built]
    assert bars == ["StepBar", "StepBar", "TQDMProgressBar"]
    files = [type(trainer.strategy.checkpoint_io) for trainer in built]
    assert files[0].__name__ == files[2].__name__ == "AtomicCheckpointIO" and files[1] is TorchCheckpointIO


@pytest.mark.slow
def test_a_run_says_little(tmp_path: Path) -> None:
    config = run_config(tmp_path, enable_progress_bar=True, num_sanity_val_steps=2)
    config["trainer"]["callbacks"].append({"class_path": "textdiff.training.Throughput", "init_args": {"every": 2}})
    path = str(write_config(tmp_path / "fit.yaml", config))
    command = [sys.executable, "-m", "textdiff", "fit", "--config", path]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    first = captured(command, cwd=ROOT, env=environment)
    assert first.returncode == 0
    assert [line.split()[1] for line in first.stdout.splitlines()] == ["2:", "4:", "6:"]
    assert all("tokens/s" in line and "valid/gap_nats" in line for line in first.stdout.splitlines())
    again = [*command, "--ckpt_path", str(tmp_path / "run" / "last.ckpt"), "--trainer.max_steps", "8"]
    second = captured(again, cwd=ROOT, env=environment)
    assert second.returncode == 0
    for run_, most in ((first, 3), (second, 7)):
        lines = run_.stderr.splitlines()
        assert len(lines) <= most and not [line for line in lines if "arn" in line or "Tip" in line], run_.stderr
    wrong = captured([*command, "--data.lenght", "3"], cwd=ROOT, env=environment)
    assert wrong.returncode == 2 and wrong.stdout == ""
    assert wrong.stderr.startswith("textdiff: ") and wrong.stderr.count("\n") == 1
    assert "Option 'lenght' is not accepted" in wrong.stderr
