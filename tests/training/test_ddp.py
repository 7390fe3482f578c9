"""Two processes (gloo, CPU) learn what one process learns from the same global batches."""

from pathlib import Path

import pytest
import torch

from tests.helpers.processes import start_fit, status
from tests.helpers.training import metrics, run_config, write_config
from tests.helpers.tree import ROOT

STEPS = 6


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["current_model_state"]


def close(a: Path, b: Path) -> None:
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_two_processes_learn_what_one_learns(streaming: bool, tmp_path: Path) -> None:
    def config(folder: Path, batch_size: int) -> Path:
        folder.mkdir()
        content = run_config(folder, max_steps=STEPS, val_check_interval=3)
        content["trainer"]["callbacks"][1]["init_args"] |= {"filename": "{step}", "save_top_k": -1}
        content["model"]["init_args"]["network"]["dropout"] = 0.0  # keyed by rank
        content["model"]["init_args"]["optimizer"] = {"class_path": "textdiff.training.AdamW"}  # Muon works in bf16
        content["data"] |= {"batch_size": batch_size, "streaming": streaming, "tokenizer": str(tmp_path / "tokenizer")}
        return write_config(folder / "fit.yaml", content)

    one, two = config(tmp_path / "one", 4), config(tmp_path / "two", 2)
    assert status(start_fit(one)) == 0
    ddp = ["--config", str(ROOT / "configs" / "strategy" / "ddp.yaml"), "--trainer.accelerator", "cpu"]
    assert status(start_fit(two, *ddp, "--trainer.devices", "2")) == 0

    losses = [[row["train/loss"] for row in metrics(tmp_path / run) if "train/loss" in row] for run in ("one", "two")]
    assert len(losses[0]) == STEPS and losses[0] == pytest.approx(losses[1], rel=1e-4)
    held_out = [
        [row["valid/gap_nats"] for row in metrics(tmp_path / run) if "valid/gap_nats" in row] for run in ("one", "two")
    ]
    assert len(held_out[0]) == 4 and held_out[0] == pytest.approx(held_out[1], rel=1e-3)
    last = f"step={STEPS}.ckpt"
    close(tmp_path / "one" / "run" / last, tmp_path / "two" / "run" / last)

    # One process continues a run of two that stopped in the middle of an accumulation.
    (tmp_path / "one" / "run" / last).unlink()
    middle = tmp_path / "two" / "run" / "step=1.ckpt"
    assert "gradients" in torch.load(middle, weights_only=True)
    assert status(start_fit(one, "--ckpt_path", str(middle))) == 0
    close(tmp_path / "one" / "run" / last, tmp_path / "two" / "run" / last)
