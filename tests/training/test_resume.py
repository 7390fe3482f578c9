"""A run that is killed and resumed ends bit-identical to an uninterrupted one."""

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.kills import final_state, fit_through_kills, leftovers, run_forked
from tests.helpers.processes import kill, start_fit, status, wait_until
from tests.helpers.training import identical, run_config, write_config
from textdiff.cli.lightning import run
from textdiff.training import TrainingModule


class Killed(Exception):
    pass


def kill_at(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """Make the next run fail at the start of a batch."""
    step = TrainingModule.training_step

    def dying(module: TrainingModule, data: Any, batch_idx: int) -> torch.Tensor:
        if batch_idx == batch:
            raise Killed
        return step(module, data, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", dying)


SAVES = {
    "after a step": {"val_check_interval": 4},
    "within an accumulation": {"val_check_interval": 3},
    "AdamW, streaming": {"val_check_interval": 4},
    "without validation": {"val_check_interval": 100},
}


@pytest.mark.parametrize("save", SAVES)
def test_a_resumed_run_ends_bit_identical(save: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = run_config(tmp_path, **SAVES[save])
    checkpoint = config["trainer"]["callbacks"][1]["init_args"]
    if "AdamW" in save:
        config["model"]["init_args"]["optimizer"] = {"class_path": "textdiff.training.AdamW"}
        config["data"] |= {"streaming": True, "buffer": 16}
    if save == "without validation":
        checkpoint["every_n_train_steps"] = 2
    path = str(write_config(tmp_path / "fit.yaml", config))
    assert run(["fit", "--config", path]) == 0
    expected = final_state(tmp_path)

    (tmp_path / "run" / "last.ckpt").unlink()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 7 if save != "within an accumulation" else 5)
        run(["fit", "--config", path])
    halfway = final_state(tmp_path)
    assert 0 < halfway["TextDataModule"]["batches"] < 7 and not identical(halfway, expected)
    assert (
        run(["fit", "--config", path, "--ckpt_path", str(tmp_path / "run" / "last.ckpt"), "--seed_everything", "9"])
        == 0
    )
    assert identical(final_state(tmp_path), expected)


@pytest.mark.slow
def test_a_killed_process_resumes_bit_identical(tmp_path: Path) -> None:
    config = run_config(tmp_path, max_steps=40, val_check_interval=10, limit_val_batches=1)
    config["data"]["workers"] = 1
    path, last = write_config(tmp_path / "fit.yaml", config), tmp_path / "run" / "last.ckpt"
    assert status(start_fit(path)) == 0
    expected = final_state(tmp_path)

    random.seed(os.urandom(8))
    workers = iter(["1", "0", "2"])
    last.unlink()
    process = start_fit(path)
    for _ in range(2):
        made = last.stat().st_mtime_ns if last.exists() else 0
        wait_until(lambda made=made: last.exists() and last.stat().st_mtime_ns != made, process)
        time.sleep(random.uniform(0, 0.15))
        kill(process)
        process = start_fit(path, "--ckpt_path", str(last), "--data.workers", next(workers))
    assert status(process) == 0
    assert identical(final_state(tmp_path), expected)


@pytest.mark.slow
def test_ten_kills_leave_nothing_behind(tmp_path: Path) -> None:
    config = run_config(tmp_path, max_steps=80, val_check_interval=4, accumulate_grad_batches=1)
    fit, last = ["fit", "--config", str(write_config(tmp_path / "fit.yaml", config))], tmp_path / "run" / "last.ckpt"
    assert run_forked(fit) == 0
    expected = final_state(tmp_path)
    last.unlink()
    assert fit_through_kills(fit, last, while_saving=6, anywhere=6) >= 8
    assert identical(final_state(tmp_path), expected)
    assert not leftovers(tmp_path) and [made.name for made in last.parent.iterdir()] == ["last.ckpt"]
