"""Every option of Lightning's trainer either works or is refused in one line."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from tests.helpers.training import metrics, run_config, write_config
from textdiff.cli.lightning import run
from textdiff.cli.trainer_options import RULES
from textdiff.errors import UserError

CALLBACKS = "lightning.pytorch.callbacks."


def callback(name: str, **options: Any) -> list[dict[str, Any]]:
    return [{"class_path": CALLBACKS + name, "init_args": options}]


REFUSED: dict[str, list[Any]] = {
    "accelerator": ["cqu", "mps"],
    "strategy": ["ddp_spawn", "ddp_fork", "ddp_notebook", "fsdp", "dpp"],
    "devices": [0, -1, 1000, "x"],
    "num_nodes": [0, 2],
    "precision": ["bf16-true", "16-true", "64-true", 64, "bf17", "transformer-engine"],
    "logger": ["nowhere"],
    "callbacks": [
        "nowhere",
        callback("BatchSizeFinder"),
        callback("LearningRateFinder"),
        callback("StochasticWeightAveraging", swa_lrs=0.1),
        callback("EarlyStopping", monitor="nowhere"),
        callback("ModelCheckpoint", save_top_k=-5),
        callback("EMAWeightAveraging", decay=5),
        callback("BackboneFinetuning"),
    ],
    "fast_dev_run": [-1],
    "max_epochs": [2, 0, -5],
    "min_epochs": [3],
    "max_steps": [-1, -7],
    "min_steps": [10],
    "max_time": ["soon"],
    "limit_train_batches": [1, 0, 0.5],
    "limit_val_batches": [-1],
    "limit_test_batches": [-1],
    "limit_predict_batches": [-1],
    "overfit_batches": [1, 0.1, 1.0],
    "val_check_interval": [0, -1, 0.5, 1.5],
    "check_val_every_n_epoch": [0, -1, 2],
    "num_sanity_val_steps": [-3],
    "log_every_n_steps": [-1],
    "accumulate_grad_batches": [0, -1],
    "gradient_clip_val": [-1],
    "gradient_clip_algorithm": ["none"],
    "use_distributed_sampler": [True],
    "profiler": ["nowhere"],
    "plugins": ["nowhere"],
    "sync_batchnorm": [True],
    "reload_dataloaders_every_n_epochs": [1, -1],
    "default_root_dir": ["/dev/null/x"],
    "model_registry": ["x"],
    "enable_checkpointing": [False],  # beside a ModelCheckpoint
}

WORKS: dict[str, list[Any]] = {
    "accelerator": ["cpu", "auto"],
    "strategy": ["auto", "ddp"],
    "devices": [1, "1", "auto"],
    "num_nodes": [1],
    "precision": [None, "32", "32-true", "bf16-mixed", "16-mixed"],
    "logger": [False, True, None],
    "callbacks": [
        None,
        callback("LearningRateMonitor"),
        callback("DeviceStatsMonitor"),
        callback("EarlyStopping", monitor="valid/gap_nats"),
        callback("GradientAccumulationScheduler", scheduling={0: 1}),
    ],
    "fast_dev_run": [False, True, 2],
    "max_epochs": [-1, None],
    "min_epochs": [0, None],
    "max_steps": [0, 1],
    "min_steps": [2],
    "max_time": ["00:01:00:00", {"minutes": 1}],
    "limit_train_batches": [1.0, None],
    "limit_val_batches": [0, 1, 1.0, 0.5],
    "limit_test_batches": [0, 1],
    "limit_predict_batches": [1.0],
    "overfit_batches": [0.0],
    "val_check_interval": [1, 3, 100, 1.0, "00:00:00:01"],
    "check_val_every_n_epoch": [1, None],
    "num_sanity_val_steps": [0, 1, -1],
    "log_every_n_steps": [0, 1, 1000],
    "enable_checkpointing": [True],
    "enable_progress_bar": [True, False],
    "enable_model_summary": [True],
    "accumulate_grad_batches": [1, 3],
    "gradient_clip_val": [0, 0.5],
    "gradient_clip_algorithm": ["norm", "value"],
    "deterministic": [True, "warn", False],
    "benchmark": [True, False],
    "inference_mode": [True, False],
    "use_distributed_sampler": [False],
    "profiler": ["simple", "advanced", "pytorch"],
    "detect_anomaly": [True],
    "barebones": [True],
    "plugins": [[], "lightning.pytorch.plugins.environments.LightningEnvironment"],
    "sync_batchnorm": [False],
    "reload_dataloaders_every_n_epochs": [0],
    "default_root_dir": ["root"],
    "enable_autolog_hparams": [False],
    "model_registry": [None],
}


def test_every_option_is_judged() -> None:
    """If a version of Lightning has a new option, judge it: whether it works, what is refused, and why."""
    assert set(inspect.signature(Trainer.__init__).parameters) - {"self"} == set(RULES) == set(WORKS)
    assert REFUSED.keys() <= RULES.keys()


def fit(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> int:
    """A fit of four steps with some options of the trainer."""
    config = run_config(folder, **{"max_steps": 4, "accumulate_grad_batches": 1, **options})
    config["data"]["tokenizer"] = "world:hmm"
    config["data"] |= {"train": ["world:hmm:40"], "valid": ["world:hmm:9:1"], "gap_length": 4}
    if "callbacks" in options or options.get("barebones"):
        config["trainer"]["callbacks"] = options.get("callbacks")
    if "default_root_dir" in options:
        config["trainer"]["logger"] = True
    if options.get("barebones"):
        for name in ("logger", "enable_progress_bar", "log_every_n_steps", "num_sanity_val_steps"):
            config["trainer"][name] = None
    monkeypatch.chdir(folder)
    return run(["fit", "--config", str(write_config(folder / "fit.yaml", config))])


LATE = ("callbacks", "default_root_dir")
"""Options whose errors come after the first batch, so that their test takes longer."""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, marks=pytest.mark.slow if name in LATE else ())
        for name, values in REFUSED.items()
        for value in values
    ],
    ids=lambda value: str(value)[:60],
)
def test_it_is_refused_in_one_line(name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as caught:
        fit(tmp_path, monkeypatch, **{name: value})
    line = str(caught.value)
    assert "\n" not in line and len(line) < 700
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WORKS.items() for value in values],
    ids=lambda value: str(value)[:60],
)
def test_it_works(name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"max_steps": value if name == "max_steps" else 4}
    assert fit(tmp_path, monkeypatch, **{**steps, name: value}) == 0
    unsaved = name in ("callbacks", "barebones") or (name == "fast_dev_run" and value)
    if not unsaved and steps["max_steps"]:
        content = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
        expected = steps["max_steps"]
        assert content["global_step"] <= expected
        assert any(parameter.abs().sum() > 0 for parameter in content["state_dict"].values())
    if name == "gradient_clip_val" and not value:
        assert any("train/loss" in row for row in metrics(tmp_path))


@pytest.mark.parametrize(
    ("option", "value"), [("limit_predict_batches", "2"), ("fast_dev_run", "true"), ("limit_predict_batches", "0.5")]
)
def test_predictions_are_not_cut_short(option: str, value: str) -> None:
    with pytest.raises(UserError, match=f"trainer.{option} is .*: shards are written when they are whole"):
        run(["predict", f"--trainer.{option}", value])
