"""Callbacks: speed, a fill to look at now and then, and predictions on disk."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import IO, Any, final

from lightning import LightningModule
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from textdiff.text import Template
from textdiff.training.module import TextModule


@final
class Throughput(Callback):
    """Logs `tokens_per_second` (tokens of text, all devices) over the last `every` batches, validation left out.

    Args:
        every: batches between two figures.
    """

    def __init__(self, every: int = 20) -> None:
        self.every = every
        self._restart()

    def _restart(self) -> None:
        self._tokens: Tensor | int = 0
        self._since = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._restart()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and log every so often."""
        self._tokens = self._tokens + (batch["segments"] > 0).sum()
        if (batch_idx + 1) % self.every == 0:
            tokens = int(self._tokens) * trainer.world_size  # waits for the device, so before the clock is read
            pl_module.log("tokens_per_second", tokens / (time.perf_counter() - self._since), prog_bar=True)
            self._restart()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start anew."""
        self._restart()


@final
class SampleFill(Callback):
    """Before each validation, fills a template with the weights that are validated, and shows the text.

    Args:
        template: text with gaps.
        seed: of the draws, the same every time.
    """

    def __init__(self, template: str = "Lily lost her red ball. [gap:12] She was happy again.", seed: int = 0) -> None:
        Template.parse(template)
        self.template, self.seed = template, seed

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Fill, print, and write to the logger if it takes text."""
        if trainer.sanity_checking or batch_idx or dataloader_idx:
            return
        assert isinstance(pl_module, TextModule)
        text = pl_module.prior.infill(self.template, seed=self.seed).texts[0]
        trainer.print(f"step {trainer.global_step}: {text}")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("fill", text, trainer.global_step)


@final
class PredictionWriter(Callback):
    """Writes what `predict` fills as JSON lines, in the order of the templates.

    A line holds `template`, `kind` (what `log_q` is), `policy`, and for each of the `samples` its `text`, its `fills`
    (one for each gap) and `log_q` in nats.

    Args:
        path: of the file; it is replaced.
    """

    def __init__(self, path: str = "predictions.jsonl") -> None:
        self.path = path
        self._file: IO[str] | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the file."""
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "w", encoding="utf-8")  # noqa: SIM115  (closed in `teardown`, after an error too)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write a line."""
        assert self._file is not None
        self._file.write(json.dumps(outputs, ensure_ascii=False) + "\n")
        self._file.flush()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
