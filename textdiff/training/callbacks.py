"""Callbacks that log the speed of training, and a sample fill at each validation."""

from __future__ import annotations

import time
from typing import Any, final

from lightning import LightningModule
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from textdiff.text import Template
from textdiff.training.module import TrainingModule


@final
class Throughput(Callback):
    """Logs `tokens_per_second`, the tokens of text of all devices over the last `every` batches, without validation.

    Args:
        every: batches between two measurements.
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
        """Count tokens, and log after each `every` batches."""
        self._tokens = self._tokens + (batch["segments"] > 0).sum()
        if (batch_idx + 1) % self.every == 0:
            tokens = int(self._tokens) * trainer.world_size  # waits for the device, and so comes before the clock
            pl_module.log("tokens_per_second", tokens / (time.perf_counter() - self._since), prog_bar=True)
            self._restart()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restart the clock."""
        self._restart()


@final
class SampleFill(Callback):
    """Fills a template before each validation, with the weights that are validated, and prints the text.

    Args:
        template: text with gaps.
        seed: of the draws, the same each time.
    """

    def __init__(self, template: str = "Lily lost her red ball. [gap:12] She was happy again.", seed: int = 0) -> None:
        Template.parse(template)
        self.template, self.seed = template, seed

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Fill the template, print the text, and write it to TensorBoard."""
        if trainer.sanity_checking or batch_idx or dataloader_idx:
            return
        assert isinstance(pl_module, TrainingModule)
        text = pl_module.prior.infill(self.template, seed=self.seed).texts[0]
        trainer.print(f"step {trainer.global_step}: {text}")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("fill", text, trainer.global_step)
