"""Callbacks: speed, and a fill to look at now and then."""

from __future__ import annotations

import time
from typing import Any, final

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
