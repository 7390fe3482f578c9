"""Speed, sample fills and progress."""

import io
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from tests.helpers.training import data_module, metrics, trainer
from textdiff.errors import UserError
from textdiff.training import AdamW, Network, PretrainingModule, SampleFill, StepBar, Throughput
from textdiff.training.progress import format_metrics

TEMPLATE = "The dog [gap:3] and was happy."


@pytest.fixture
def module(tmp_path: Path) -> PretrainingModule:
    return PretrainingModule(
        data_module(tmp_path).tokenizer,
        Network(hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
        AdamW(lr=0.1),
        warmup_steps=1,
    )


def test_speed_is_tokens_over_seconds(
    module: PretrainingModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 2.0
        return now

    monkeypatch.setattr("textdiff.training.callbacks.time.perf_counter", clock)
    data = data_module(tmp_path)
    trainer(tmp_path, max_steps=4, callbacks=[Throughput(every=2)]).fit(module, data)
    batches = iter(data.train_dataloader())
    tokens = [int((next(batches)["segments"] > 0).sum()) for _ in range(4)]
    logged = {row["step"]: row.get("tokens_per_second") for row in metrics(tmp_path)}
    assert logged[0] is None and logged[1] == pytest.approx(sum(tokens[:2]) / 2)
    assert logged[3] == pytest.approx(sum(tokens[2:]) / 2)


def test_a_sample_is_filled_with_the_weights_that_are_validated(
    module: PretrainingModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = TensorBoardLogger(str(tmp_path / "board"))
    callbacks = [SampleFill(TEMPLATE, seed=3), EMAWeightAveraging(decay=0.5)]
    fitting = trainer(
        tmp_path, max_steps=3, val_check_interval=3, limit_val_batches=1.0, callbacks=callbacks, logger=logger
    )
    fitting.fit(module, data_module(tmp_path))
    # After training the averaged weights are the module's, and nothing has changed them since the validation.
    expected = module.prior.infill(TEMPLATE, seed=3).texts[0]
    assert f"step 3: {expected}" in capsys.readouterr().out
    logger.finalize("success")
    assert expected.encode() in b"".join(path.read_bytes() for path in (tmp_path / "board").rglob("events*"))


def test_a_template_is_read_at_once() -> None:
    with pytest.raises(UserError, match="no gap"):
        SampleFill("No gap here.")


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_shows_steps_and_speed(terminal: bool, module: PretrainingModule, tmp_path: Path) -> None:
    bar, shown = StepBar(), io.StringIO()
    bar._console = Console(file=shown, force_terminal=terminal, width=200, soft_wrap=True, highlight=False)
    options: dict[str, Any] = {"max_steps": 4, "val_check_interval": 2, "limit_val_batches": 1.0}
    fitting = trainer(tmp_path, **options, enable_progress_bar=True, callbacks=[Throughput(every=1), bar])
    data = data_module(tmp_path)
    fitting.fit(module, data)
    lines = shown.getvalue()
    assert "step 2: " in lines and "step 4: " in lines and "tokens/s" in lines and "valid/gap_nats" in lines
    assert ("4/4" in lines) == terminal
    shown.truncate(0)
    fitting.validate(module, data, verbose=False)
    assert ("validating" in shown.getvalue()) == terminal
    bar.disable()
    shown.truncate(0)
    fitting.validate(module, data, verbose=False)
    assert not shown.getvalue().strip("\0")


def test_figures_in_a_line() -> None:
    assert format_metrics({"train/loss": 1.23456, "tokens_per_second": 12345.6}) == "12,346 tokens/s, train/loss 1.235"
