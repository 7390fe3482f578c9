"""Resuming a run: its checkpoints keep its settings, and a run that goes on from them with others is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from lightning import LightningModule
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.optim.lr_scheduler import LambdaLR

from textdiff.errors import UserError
from textdiff.training.checkpoints import SHAPE
from textdiff.training.run_settings import ALLOWED

KEY = "settings"
"""Where a checkpoint has the settings of its run."""

FIXED = (
    "model",
    "model.optimizer",
    "model.adapter",
    "model.adapter.rank",
    "model.adapter.targets",
    *(f"model.network.{name}" for name in SHAPE),
)
"""Options that the tensors of a checkpoint depend on: with others they cannot be restored."""

FLAG = "--accept_changes true"


@final
class Resumption(Callback):
    """Keeps the settings of a run in its checkpoints, and compares those of a run that goes on from one.

    Args:
        settings: what the result depends on, see `textdiff.training.run_settings.run_settings`.
        accept: go on although settings have changed. All of them take effect, also those of the optimizer, in place of
            which a checkpoint would bring its own.
    """

    def __init__(self, settings: Mapping[str, Any], accept: bool = False) -> None:
        self.settings, self.accept = dict(settings), accept
        self._renews_optimizer = False
        self._groups: list[list[dict[str, Any]]] = []

    def check(self, checkpoint: Mapping[str, Any], name: str, max_steps: int) -> None:
        """Compare the settings before anything is restored, and say which allowed ones have changed.

        Args:
            checkpoint: the content of the file.
            name: of the file.
            max_steps: of this run; -1: there is no limit.

        Raises:
            UserError: the file holds weights alone, its run is beyond `max_steps`, or a setting has changed.
        """
        if not checkpoint.get("optimizer_states") or not checkpoint.get("lr_schedulers"):
            raise UserError(
                f"{name!r} holds weights alone, without the state of the optimizer: nothing can be resumed from it; "
                "export it, and start from the weights (model.init_from or model.checkpoint)"
            )
        done = checkpoint.get("global_step", 0)
        if 0 <= max_steps < done:
            raise UserError(f"{name!r} is at step {done} and trainer.max_steps is {max_steps}: raise trainer.max_steps")
        theirs = checkpoint.get(KEY)
        if not isinstance(theirs, dict):
            rank_zero_info(f"{name!r} does not say with which data and settings it was trained: nothing was compared")
            return
        changed = differences(theirs, self.settings)
        if fixed := [option for option in changed if option in FIXED]:
            raise UserError(
                f"the state of {name!r} does not fit ({_in_words(changed, fixed)}): give the options of its run, or "
                "start another run"
            )
        if refused := [option for option in changed if option not in ALLOWED]:
            words = _in_words(changed, refused)
            if not self.accept:
                raise UserError(
                    f"the run of {name!r} had other settings: {words}; give those, or go on with the new ones by {FLAG}"
                )
            rank_zero_info(f"goes on with changed settings: {words}")
        if allowed := [option for option in changed if option in ALLOWED]:
            rank_zero_info(f"goes on where {name!r} stopped; allowed changes: {_in_words(changed, allowed)}")
        self._renews_optimizer = any(option.startswith("model.optimizer.") for option in refused)
        if max_steps == done:
            rank_zero_info(f"nothing is left to train: {name!r} is at step {done}, which is trainer.max_steps")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the settings."""
        checkpoint[KEY] = self.settings

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """At the end of the run, save the steps after the last validation, too, where the last state is kept."""
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.monitor is None and any(trainer.num_val_batches):
                callback.on_validation_end(trainer, pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the options of the new optimizer, before those of the checkpoint replace them."""
        if self._renews_optimizer:
            self._groups = [
                [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
                for optimizer in trainer.optimizers
            ]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the restored optimizer the options that were accepted in place of its own."""
        for optimizer, groups in zip(trainer.optimizers, self._groups, strict=False):
            for group, options in zip(optimizer.param_groups, groups, strict=True):
                group.update(options)
        if self._groups:
            for config in trainer.lr_scheduler_configs:
                scheduler = config.scheduler
                assert isinstance(scheduler, LambdaLR)
                scheduler.base_lrs = [group["initial_lr"] for group in scheduler.optimizer.param_groups]
                rates = [
                    base * factor(scheduler.last_epoch)
                    for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
                ]
                for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate


def check_network(checkpoint: Mapping[str, Any], settings: Mapping[str, Any], name: str) -> None:
    """Check that a checkpoint that is measured is of a network with these settings.

    Raises:
        UserError: it is not; the message names the settings.
    """
    theirs = checkpoint.get(KEY)
    if not isinstance(theirs, dict):
        return
    changed = differences(theirs, settings)
    if ours := [option for option in changed if option.startswith("model.network.") and "dropout" not in option]:
        raise UserError(f"the network of {name!r} had other settings: {_in_words(changed, ours)}; give those")


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that differ by option, each with its old and its new value; None: it was not set."""
    names = sorted(theirs.keys() | ours.keys())
    return {name: (theirs.get(name), ours.get(name)) for name in names if theirs.get(name) != ours.get(name)}


def _in_words(changed: Mapping[str, tuple[Any, Any]], options: list[str]) -> str:
    """Some differences in words; of many, the first."""
    words = [f"{option} was {_short(changed[option][0])}, is {_short(changed[option][1])}" for option in options[:4]]
    return "; ".join([*words, *([f"and {len(options) - 4} more"] if len(options) > 4 else [])])


def _short(value: Any) -> str:
    text = str(value) if not isinstance(value, list) else ", ".join(map(_callback_name, value)) or "none"
    return text if len(text) <= 90 else f"{text[:60]}...{text[-20:]}"


def _callback_name(value: Any) -> str:
    if isinstance(value, dict) and "class_path" in value:
        options = ", ".join(f"{name}={inner}" for name, inner in (value.get("init_args") or {}).items())
        return f"{value['class_path'].rpartition('.')[2]}({options})"
    return str(value)
