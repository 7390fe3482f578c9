"""The progress bar of a run: steps or rows, speed and the last logged metrics."""

from __future__ import annotations

import time
from typing import Any, final

from lightning import LightningModule
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from textdiff.data import Part, Shards


@final
class StepBar(ProgressBar):
    """A bar over the optimizer steps of a fit, the rows of a prediction or the batches of another task.

    A line is printed after each validation and when all rows are filled. If the output is no terminal, there is no bar,
    but a line after each shard of rows.
    """

    def __init__(self) -> None:
        super().__init__()
        self._console, self._enabled = Console(soft_wrap=True, highlight=False), True
        self._bar: Progress | None = None
        self._since, self._filled, self._failed = 0.0, 0, 0

    def enable(self) -> None:
        """Show the bar from its next start."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing."""
        self._enabled = False
        self._stop()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        if self._enabled:
            self._console.print(*args, markup=False, **kwargs)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show all steps of the run, those before it was resumed included."""
        self._start("training", trainer.max_steps if trainer.max_steps > 0 else None, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the step and the metrics."""
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0],
                completed=trainer.global_step,
                metrics=format_metrics(trainer.progress_bar_metrics),
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop, and leave the last state of the bar on the screen."""
        self._stop()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rename the bar within a fit; else show the batches of the validation."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description="validating")
        elif not trainer.sanity_checking:
            self._start("validating", sum(trainer.num_val_batches))

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Advance by one batch."""
        if trainer.state.fn == "validate":
            self._advance()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the metrics of a validation within a fit."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description="training")
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.print(f"step {trainer.global_step}: {format_metrics(trainer.progress_bar_metrics)}")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the batches of a test."""
        self._start("testing", sum(trainer.num_test_batches))

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Advance by one batch."""
        self._advance()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the rows that this process has to fill."""
        self._since, self._filled, self._failed = time.perf_counter(), 0, 0
        rows = getattr(trainer.predict_dataloaders, "dataset", None)
        self._start("filling", rows.remaining() if self._shows and isinstance(rows, Shards) else None)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Show rows and speed in the bar; without a bar, print them after each shard."""
        if not isinstance(batch, Part):
            return
        self._filled += len(batch.rows)
        self._failed += sum("error" in row for row in outputs)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._filled, metrics=self._rows_line())
        elif batch.last:
            self.print(f"shard {batch.shard}: {self._rows_line()}")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the rows that this process has filled."""
        self._stop()
        share = f"process 1 of {trainer.world_size}: " if trainer.world_size > 1 else ""
        self.print(f"{share}{self._rows_line() if self._filled else 'nothing is left to fill'}")

    def _rows_line(self) -> str:
        errors = f", {self._failed:,} of them not filled (see their field 'error')" if self._failed else ""
        speed = self._filled / max(time.perf_counter() - self._since, 1e-9)
        return f"{self._filled:,} rows{errors}, {speed:,.1f} rows/s"

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop the bar, also after an error."""
        self._stop()

    def _start(self, description: str, total: float | None, completed: int = 0) -> None:
        self._stop()
        if self._shows:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[metrics]}"),
            )
            self._bar = Progress(*columns, console=self._console, refresh_per_second=2)
            self._bar.add_task(description, total=total, completed=completed, metrics="")
            self._bar.start()

    @property
    def _shows(self) -> bool:
        return self._enabled and self._console.is_terminal

    def _advance(self) -> None:
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def format_metrics(metrics: dict[str, Any]) -> str:
    """Logged metrics in one line, speed first."""
    speed = [f"{metrics['tokens_per_second']:,.0f} tokens/s"] if "tokens_per_second" in metrics else []
    rest = [f"{name} {value:.3f}" for name, value in metrics.items() if name != "tokens_per_second"]
    return ", ".join([*speed, *rest])
