"""How a run of Lightning ends when a signal asks for it: between two optimizer steps, with a checkpoint."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, final

import torch
from lightning import LightningModule
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from textdiff.cli import signals
from textdiff.cli.streams import release_messages, say


@final
class EndInOrder(Callback):
    """Ends a fit on one device before the first batch of a step, and first brings its checkpoint up to date.

    That is each `ModelCheckpoint` without a metric, which holds the last state of the run: resumed from it, the run
    goes on as if it had not been interrupted. Everything else, and a fit on several devices, ends at once: what it has
    written is whole. Messages that were held back are released when work begins, for then the options were right.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on steps are whole."""
        _begin(trainer)
        signals.wait(trainer.world_size == 1)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save and end, if a signal has come and the batches of the last step are complete."""
        if signals.received() is None or batch_idx % trainer.accumulate_grad_batches:
            return
        signals.wait(False)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.monitor is None and not callback.save_weights_only:
                steps = {"epoch": torch.tensor(trainer.current_epoch), "step": torch.tensor(trainer.global_step)}
                trainer.save_checkpoint(path := callback.format_checkpoint_name(steps), weights_only=False)
                say(f"step {trainer.global_step} is saved; to go on from it add --ckpt_path {path}")
        signals.stop()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End at once while a validation runs, which may take long; its checkpoint is written after it."""
        _begin(trainer)
        signals.wait(False)
        if signals.received() is not None:
            signals.stop()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on steps are whole again."""
        signals.wait(trainer.state.fn == "fit" and trainer.world_size == 1 and not trainer.sanity_checking)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Work begins."""
        _begin(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Work begins."""
        _begin(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All is saved."""
        signals.wait(False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The run is over."""
        signals.wait(False)


def _begin(trainer: Trainer) -> None:
    """Release messages, and handle signals in place of Lightning: it ends a fit with status 0, and no prediction."""
    release_messages()

    def handle(number: int, frame: FrameType | None) -> None:
        launcher = trainer.strategy.launcher
        if launcher is not None and signals.received() is None:
            launcher.kill(number)  # the processes of other devices
        signals.handle(number, frame)

    if signals.are_handled() and signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, handle)
