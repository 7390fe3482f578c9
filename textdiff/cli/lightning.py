"""`textdiff fit | validate | test | predict`: LightningCLI with one-line errors and without chatter."""

from __future__ import annotations

import logging
import warnings
from dataclasses import fields
from functools import partial
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any, final

import yaml  # type: ignore[import-untyped]
from jsonargparse import ArgumentError
from lightning import LightningDataModule, LightningModule
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from textdiff.data import TextDataModule
from textdiff.errors import UserError
from textdiff.pretrained.load import described
from textdiff.training.checkpoints import AtomicCheckpointIO, read_checkpoint
from textdiff.training.module import Network, TextModule
from textdiff.training.predictions import PredictionWriter
from textdiff.training.progress import StepBar

COMMANDS = ("fit", "validate", "test", "predict")
"""What `run` can do."""

CHATTER = ("Tip: ", "TPU available", "GPU available: False", "Seed set to")
"""Beginnings of messages of Lightning that tell a user nothing."""

HARMLESS = (
    r"Checkpoint directory .* exists and is not empty",  # that is what resuming is
    r".*does not have many workers which may be a bottleneck",  # rows are made faster than they are learnt from
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own
    r"You're using the WeightAveraging callback, but loading a checkpoint outside the 'fit' stage",  # as intended
    r"Mismatch dtype between input and weight",  # of a norm in mixed precision
)
"""Beginnings of warnings about what is meant to be so."""


def run(arguments: list[str]) -> int:
    """Run one of `COMMANDS` with the options that follow it; returns the exit status.

    Raises:
        UserError: an option, a file or a combination of them is wrong; the message is one line.
    """
    with warnings.catch_warnings(), _less_chatter():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message=message)
        try:
            TextCLI(arguments)
        except ArgumentError as error:
            raise UserError(f"{concise(str(error))}; `textdiff {arguments[0]} --help` lists the options") from error
        except ValueError as error:
            if (mistake := _mistake(error)) is None:
                raise
            raise mistake from None
        except MisconfigurationException as error:
            raise UserError(" ".join(str(error).split())) from error
        except SystemExit as stopped:  # --help, --print_config
            return int(stopped.code or 0)
    return 0


@final
class TextCLI(LightningCLI):
    """LightningCLI for a `TextModule` and a `TextDataModule`, or for those whose `class_path` a config names.

    Beside Lightning's options, `predictions` says what `predict` writes, and where.
    """

    def __init__(self, arguments: list[str]) -> None:
        self._command = arguments[0] if arguments else ""
        if self._command not in COMMANDS:
            raise UserError(f"no command {self._command!r}: expected {', '.join(COMMANDS)}")
        raising: dict[str, Any] = {"exit_on_error": False}
        self._named = _names_classes(arguments)
        super().__init__(
            LightningModule if self._named else TextModule,
            LightningDataModule if self._named else TextDataModule,
            subclass_mode_model=self._named,
            subclass_mode_data=self._named,
            trainer_defaults={"max_epochs": -1, "use_distributed_sampler": False, "enable_model_summary": False},
            seed_everything_default=0,
            save_config_callback=SaveConfigCallback if self._command == "fit" else None,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={**raising, self._command: dict(raising)},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=arguments,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The command at hand alone: building the parsers of all takes seconds."""
        return {self._command: super().subcommands()[self._command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The model's vocabulary is the data's."""
        if not self._named:
            parser.link_arguments("data.tokenizer", "model.tokenizer", apply_on="instantiate")
        parser.add_lightning_class_args(PredictionWriter, "predictions")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Read the options, and look at the checkpoint before anything is built."""
        assert isinstance(args, list)
        self.config = parser.parse_args(args)
        options = self.config[self._command]
        path = options.get("ckpt_path")
        if self._named and self._command == "predict":
            raise UserError("predict fills templates with a TextModule: give it the exported folder as model.init_from")
        untrained = not self._named and options["model"]["init_from"] is options["model"]["base"] is None
        if untrained and path is None and self._command != "fit":
            raise UserError(f"{self._command} needs trained weights: give --ckpt_path FILE or --model.init_from FOLDER")
        if path is not None and path not in ("best", "last", "hpc"):
            read_checkpoint(path)
        if self._command == "predict":
            options["return_predictions"] = False  # they are on disk, and may be too many for the memory
            if path is None:
                _as_checkpoint(options)
            else:
                options["model"]["init_from"] = None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with whole checkpoints and our progress bar unless the options say otherwise."""
        options = self.config_init[self.subcommand]["trainer"]
        callbacks, plugins = _listed(options["callbacks"]), _listed(options["plugins"])
        if options["enable_progress_bar"] is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            kwargs["callbacks"] = [*callbacks, StepBar()]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"] = [*plugins, AtomicCheckpointIO()]
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, ModuleNotFoundError, MisconfigurationException) as error:  # Lightning's, on its options
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error


class _less_chatter:
    """A context in which Lightning's messages that begin like `CHATTER` are not shown."""

    def __enter__(self) -> None:
        self._loggers = [
            logging.getLogger(name)
            for name in (
                "lightning.pytorch",
                "lightning.pytorch.utilities.rank_zero",
                "lightning.fabric.utilities.seed",
            )
        ]
        for logger in self._loggers:
            logger.addFilter(self._tells)

    def __exit__(self, *error: object) -> None:
        for logger in self._loggers:
            logger.removeFilter(self._tells)

    @staticmethod
    def _tells(record: logging.LogRecord) -> bool:
        return not any(beginning in record.getMessage()[:60] for beginning in CHATTER)


def _as_checkpoint(options: Any) -> None:
    """Give the model the shape, and the data the tokenizer, of the checkpoint that is to fill."""
    folder, config = described(options["model"]["init_from"])
    options["data"]["tokenizer"] = str(folder)
    for field in fields(Network):
        options["model"]["network"][field.name] = getattr(config, field.name)


def _names_classes(arguments: list[str]) -> bool:
    """Whether a config among the options says by `class_path` what the model is."""
    for option, value in zip_longest(arguments, arguments[1:], fillvalue=""):
        name, _, joined = option.partition("=")
        if name not in ("--config", "-c"):
            continue
        try:
            content = yaml.safe_load(Path(joined or value).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue  # the parser says what is wrong with it
        if isinstance(content, dict) and "class_path" in (content.get("model") or {}):
            return True
    return False


def _listed(option: Any) -> list[Any]:
    if option is None:
        return []
    return list(option) if isinstance(option, list) else [option]


def _mistake(error: BaseException | None) -> UserError | None:
    """The user's mistake that an error of the parser reports, if it does."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def concise(message: str) -> str:
    """What a parser's message of many lines says, in one: alternatives that were not meant are left out."""
    lines = [line for line in message.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if "Problem with given class_path" in line:
            inner = takewhile(partial(_deeper, line), lines[number + 1 :])
            return " ".join([*_key(lines, number), line.strip().removeprefix("- "), concise("\n".join(inner))])
    bullets = [line.strip().removeprefix("- ") for line in lines if line.strip().startswith("- ")]
    if meant := [
        bullet for bullet in bullets if not bullet.startswith(("Expected a path", "Expected a <class 'NoneType'>"))
    ]:
        given = [line.strip() for line in lines if line.strip().startswith("Given value:")]
        return " ".join([*_key(lines, len(lines)), " or ".join(meant), *given])
    return " ".join(line.strip() for line in lines)


def _key(lines: list[str], before: int) -> list[str]:
    return [line.strip() for line in lines[:before][:1] if line.startswith("Parser key")]


def _deeper(line: str, other: str) -> bool:
    return len(other) - len(other.lstrip()) > len(line) - len(line.lstrip())
