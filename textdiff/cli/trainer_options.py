"""Every option of Lightning's trainer, judged: it works here, or is refused before the work, with a fix."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, final, get_args

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    Callback,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
)

from textdiff.errors import UserError
from textdiff.files import probe_folder, tidy

NO_EPOCHS = "training text is one endless stream, without epochs: set trainer.max_steps"
MOST_CPU_PROCESSES = 64
BY_EPOCHS = (BaseFinetuning, BatchSizeFinder, LearningRateFinder, StochasticWeightAveraging)
"""Callbacks that count epochs, or try settings out for one."""


@final
@dataclass(frozen=True)
class Rule:
    """Which values of an option are refused.

    Args:
        refuses: whether a value is refused.
        fix: why, and what to give instead.
        commands: to which the rule applies.
    """

    refuses: Callable[[Any], bool]
    fix: str
    commands: tuple[str, ...] = ("fit",)


EVERYWHERE = ("fit", "validate", "test", "predict")

RULES: dict[str, Rule | None] = {
    "accelerator": None,
    "strategy": Rule(
        lambda value: isinstance(value, str) and value.partition("_find")[0].endswith(("_spawn", "_fork", "_notebook")),
        "processes are started by the command itself: give ddp",
        EVERYWHERE,
    ),
    "devices": Rule(
        lambda value: str(value).isdecimal() and int(value) > MOST_CPU_PROCESSES,
        f"give at most {MOST_CPU_PROCESSES}",
        EVERYWHERE,
    ),
    "num_nodes": Rule(
        lambda value: value > 1 and not {"MASTER_ADDR", "SLURM_JOB_ID", "LSB_JOBID"} & os.environ.keys(),
        "start the command on each node by torchrun or srun, or set MASTER_ADDR",
        EVERYWHERE,
    ),
    "precision": Rule(
        lambda value: (str(value).endswith("-true") and value != "32-true") or str(value) == "64",
        "weights are kept in float32: give bf16-mixed, 16-mixed or 32-true",
        ("fit", "validate", "test"),
    ),
    "logger": None,
    "callbacks": None,
    "fast_dev_run": Rule(bool, "shards are written when they are whole: give fewer templates", ("predict",)),
    "max_epochs": Rule(lambda value: value not in (None, -1), NO_EPOCHS),
    "min_epochs": Rule(bool, NO_EPOCHS),
    "max_steps": None,
    "min_steps": None,
    "max_time": None,
    "limit_train_batches": Rule(lambda value: value is not None and not _is_all(value), NO_EPOCHS),
    "limit_val_batches": None,
    "limit_test_batches": None,
    "limit_predict_batches": Rule(
        lambda value: value is not None and not _is_all(value),
        "shards are written when they are whole: give fewer templates",
        ("predict",),
    ),
    "overfit_batches": Rule(bool, "to learn a few texts by heart give a file of them as data.train"),
    "val_check_interval": Rule(
        lambda value: isinstance(value, int | float) and not _is_all(value) and not (value >= 1 and value % 1 == 0),
        "give a whole number of batches, 1 or more, or a time such as 00:00:30:00",
    ),
    "check_val_every_n_epoch": Rule(
        lambda value: value not in (None, 1), "there are no epochs: set trainer.val_check_interval, in batches"
    ),
    "num_sanity_val_steps": Rule(lambda value: (value or 0) < -1, "give 0 or more, or -1 for all"),
    "log_every_n_steps": Rule(lambda value: (value or 0) < 0, "give 0 or more"),
    "enable_checkpointing": None,
    "enable_progress_bar": None,
    "enable_model_summary": None,
    "accumulate_grad_batches": Rule(lambda value: value < 1, "give 1 or more"),
    "gradient_clip_val": Rule(lambda value: not 0 <= (value or 0) < math.inf, "give a number, 0 or more"),
    "gradient_clip_algorithm": None,
    "deterministic": None,
    "benchmark": None,
    "inference_mode": None,
    "use_distributed_sampler": Rule(bool, "the data share out their rows themselves: leave it out", EVERYWHERE),
    "profiler": None,
    "detect_anomaly": None,
    "barebones": None,
    "plugins": None,
    "sync_batchnorm": Rule(bool, "the networks have no batch norm: leave it out", EVERYWHERE),
    "reload_dataloaders_every_n_epochs": Rule(bool, "there are no epochs: leave it out", EVERYWHERE),
    "default_root_dir": None,
    "enable_autolog_hparams": None,
    "model_registry": Rule(bool, "checkpoints are files here: leave it out", EVERYWHERE),
}
"""The options of `lightning.pytorch.Trainer`; None: all values that Lightning takes work as it documents them."""


def whole_numbers_first() -> None:
    """Let parsers take 1 for one batch, and 1.0 for all, wherever Lightning's trainer takes both.

    `Union[int, float]` may be `Union[float, int]` if that was written first anywhere: typing has one object for both.
    """
    hints = Trainer.__init__.__annotations__
    for name, hint in hints.items():
        if {int, float} <= set(kinds := get_args(hint)):
            hints[name] = reduce(or_, sorted(kinds, key=lambda kind: kind is float))


def check_trainer_options(command: str, options: Mapping[str, Any] | Namespace) -> None:
    """Check the options of the trainer, before it is built.

    Raises:
        UserError: one is refused, or there are no options but some other value.
    """
    if not isinstance(options, Mapping | Namespace):
        raise UserError(f"trainer is {options!r:.80}, expected its options by name, such as max_steps: 100")
    for name, rule in RULES.items():
        value = options.get(name)
        if rule is not None and value is not None and command in rule.commands and rule.refuses(value):
            raise UserError(f"trainer.{name} is {value}: {rule.fix}")
    if command == "fit" and not options["fast_dev_run"]:
        steps = options["max_steps"]
        if steps == -1:
            raise UserError("the stream of training batches has no end: set trainer.max_steps")
        if (options["min_steps"] or 0) > steps:
            raise UserError(
                f"trainer.min_steps is {options['min_steps']} and trainer.max_steps {steps}: raise the latter"
            )


def check_callbacks(callbacks: list[Callback]) -> None:
    """Check that callbacks do not count epochs.

    Raises:
        UserError: one does.
    """
    for callback in callbacks:
        if isinstance(callback, BY_EPOCHS):
            raise UserError(f"trainer.callbacks has {type(callback).__name__}, which needs epochs: {NO_EPOCHS}")


def check_outputs(trainer: Trainer, model: LightningModule) -> None:
    """Check that all folders which a fit writes to can be written, and tidy what killed runs have left in them.

    Raises:
        UserError: one cannot.
    """
    saved = [callback.dirpath for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    logged = [logger.save_dir for logger in trainer.loggers]
    root = [trainer.default_root_dir] if None in saved or None in logged else []
    for folder in (*saved, *logged, *root, getattr(model, "to_folder", None)):
        if folder is not None and "://" not in str(folder):
            tidy(probe_folder(folder))


def _is_all(share: float | int) -> bool:
    """Whether a share of batches is all of them; 1 is one batch."""
    return isinstance(share, float) and share == 1.0
