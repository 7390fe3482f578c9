"""`textdiff fit | validate | test | predict`: LightningCLI with one-line errors and few messages."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from jsonargparse import ArgumentError, Namespace
from lightning import LightningDataModule, LightningModule
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from textdiff.cli.configs import with_configs
from textdiff.cli.lightning_messages import fewer_messages, help_command, in_one_line
from textdiff.cli.lightning_signals import EndInOrder
from textdiff.cli.null_values import check_null_values
from textdiff.cli.streams import wide_tables
from textdiff.cli.trainer_options import check_callbacks, check_outputs, check_trainer_options, whole_numbers_first
from textdiff.cli.yaml_text import MODE, reading_once
from textdiff.errors import UserError
from textdiff.pretrained import tokenizer_folder
from textdiff.training import AtomicCheckpointIO, PredictionWriter, StepBar
from textdiff.training.checkpoint_files import read_checkpoint
from textdiff.training.prediction_writer import check_place
from textdiff.training.resumption import Resumption, check_network
from textdiff.training.run_settings import run_settings

DATA, PRETRAINING, PREDICTION = (
    "textdiff.data.TextDataModule",
    "textdiff.training.PretrainingModule",
    "textdiff.training.PredictionModule",
)
DEFAULT_MODEL = {"fit": PRETRAINING, "validate": PRETRAINING, "test": PRETRAINING, "predict": PREDICTION}
"""The model of each command, if no configuration names another."""


def run(arguments: list[str]) -> int:
    """Run one of the four commands with the options that follow it; returns the exit status.

    Raises:
        UserError: an option, a file or a combination of them is wrong; the message is one line.
    """
    if (command := arguments[0] if arguments else "") not in DEFAULT_MODEL:
        raise UserError(f"no command {command!r}: expected {', '.join(DEFAULT_MODEL)}")
    arguments = with_configs(arguments, command)
    with fewer_messages(), wide_tables():
        try:
            TextCLI(arguments)
        except ArgumentError as error:
            message = in_one_line(str(error))
            raise UserError(f"{message}; `{help_command(arguments[0], message)}` lists the options") from error
        except SystemExit as stopped:  # --help, --print_config
            if isinstance(stopped.__context__, BrokenPipeError):  # rich exits where nobody reads what it prints
                raise stopped.__context__ from None
            if stopped.code:  # argparse, which has written several lines
                raise UserError("the help on one class takes no other options: leave out what follows it") from None
            return 0
        except Exception as error:
            if isinstance(mistake := _user_error(error), UserError):
                raise mistake from None
            if _is_of_options(error):
                raise UserError(in_one_line(str(error))) from error
            raise
    return 0


@final
class TextCLI(LightningCLI):
    """LightningCLI for any model and data module; `class_path` names them.

    Beside Lightning's options, `predictions` says what `predict` writes, and where.
    """

    def __init__(self, arguments: list[str]) -> None:
        self._command = arguments[0]
        whole_numbers_first()
        raising: dict[str, Any] = {"exit_on_error": False, "parser_mode": MODE}
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_defaults={"max_epochs": -1, "use_distributed_sampler": False, "enable_model_summary": False},
            seed_everything_default=0,
            save_config_callback=SaveConfigCallback if self._command == "fit" else None,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={**raising, self._command: dict(raising)},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_class=_ClassDefaultsParser,
            args=arguments,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The command at hand alone: building the parsers of all takes seconds."""
        return {self._command: super().subcommands()[self._command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Set the default classes; a model that takes a tokenizer gets that of the data."""
        parser.set_defaults({"model": {"class_path": DEFAULT_MODEL[self._command]}, "data": {"class_path": DATA}})
        parser.link_arguments("data.tokenizer", "model.init_args.tokenizer", apply_on="instantiate")
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        if self._command == "fit":
            parser.add_argument(
                "--accept_changes",
                type=bool,
                default=False,
                help="Go on from ckpt_path although data or settings differ from those of its run. "
                "Without it a difference that changes the result is refused.",
            )
        model = DEFAULT_MODEL[self._command].rpartition(".")[2]
        parser.epilog = f"Options of the model: --model.help {model}; of the data: --data.help TextDataModule"

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the options, and check the checkpoint before anything is built."""
        assert isinstance(args, list)
        with reading_once(args):
            self.config = parser.parse_args(args)
        options = self.config[self._command]
        check_null_values(options, {"trainer": Trainer, "predictions": PredictionWriter})
        check_trainer_options(self._command, options["trainer"])
        if not 0 <= int(options["seed_everything"]) < 2**32:
            raise UserError(f"seed_everything is {options['seed_everything']}, expected 0 or more, below 2**32")
        model, path = options["model"], options.get("ckpt_path")
        self._checkpoint = None if path is None else read_checkpoint(path)
        if self._command == "predict":
            _check_prediction(model, path)
            if not isinstance(predictions := options["predictions"], Mapping | Namespace):
                raise UserError(f"predictions is {predictions!r:.80}, expected its options by name, such as path: FILE")
            check_place(Path(predictions["path"]))
            options["return_predictions"] = False  # they are on disk, and may be too many for the memory
        elif self._command != "fit" and path is None:
            _check_weights(self._command, model)

    def before_instantiate_classes(self) -> None:
        """Prediction takes the tokenizer of its checkpoint; for a `.ckpt` file, which has none, the data name it."""
        options = self.config[self._command]
        if self._command == "predict" and options["data"]["class_path"] == DATA:
            data, checkpoint = options["data"]["init_args"], options["model"]["init_args"]["checkpoint"]
            if not checkpoint.endswith(".ckpt"):
                data["tokenizer"] = str(tokenizer_folder(checkpoint))

    def before_fit(self) -> None:
        """Check the outputs, and compare the settings with those of the run that is resumed, before the work."""
        check_outputs(self.trainer, self.model)
        if self._checkpoint is not None:
            path = self.config[self._command]["ckpt_path"]
            self._resumption.check(self._checkpoint, path, self.trainer.max_steps)
            self._checkpoint = None

    def before_validate(self) -> None:
        """Compare the network with that of the checkpoint."""
        if self._checkpoint is not None:
            options = self.config[self._command]
            check_network(self._checkpoint, run_settings(options, self.datamodule), options["ckpt_path"])
            self._checkpoint = None

    before_test = before_validate

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with atomic checkpoints and our progress bar unless the options name others."""
        options = self.config_init[self.subcommand]["trainer"]
        callbacks, plugins = _as_list(options["callbacks"]), _as_list(options["plugins"])
        check_callbacks(callbacks)
        has_bar = options["enable_progress_bar"] is not False and not options["barebones"]
        if has_bar and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks = [*callbacks, StepBar()]
        kwargs["callbacks"] = [*callbacks, EndInOrder()]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"] = [*plugins, AtomicCheckpointIO()]
        if self._command == "fit":
            settings = run_settings(self.config[self._command], self.datamodule)
            self._resumption = Resumption(settings, self.config[self._command]["accept_changes"])
            kwargs["callbacks"].append(self._resumption)
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, ImportError, MisconfigurationException) as error:  # Lightning's, on its options
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error


@final
class _ClassDefaultsParser(LightningArgumentParser):
    """A parser whose defaults of `model` and `data` are classes without arguments.

    Otherwise the arguments of the default class would become those of any other that a configuration names, in place
    of its own defaults.
    """

    def get_defaults(self, skip_validation: bool = False, **kwargs: Any) -> Namespace:
        """The default values."""
        defaults = super().get_defaults(skip_validation, **kwargs)
        for name in ("model", "data"):
            if isinstance(defaults.get(name), Namespace):
                defaults[name].pop("init_args", None)
        return defaults


def _check_prediction(model: Any, path: str | None) -> None:
    """Raise a `UserError` unless the model fills templates with weights of its own."""
    if model["class_path"] != PREDICTION:
        raise UserError(
            f"predict fills templates with {PREDICTION}, not {model['class_path']}: give the checkpoint to fill with "
            "as model.checkpoint, as in configs/predict.yaml"
        )
    if path is not None:
        raise UserError("predict takes the checkpoint of a run as model.checkpoint, and its data.tokenizer")


def _check_weights(command: str, model: Any) -> None:
    """Raise a `UserError` if the weights of a model without checkpoint are random."""
    if model["class_path"] == PRETRAINING and model["init_args"]["init_from"] is None:
        raise UserError(f"{command} needs trained weights: give --ckpt_path FILE or --model.init_from FOLDER")


def _as_list(option: Any) -> list[Any]:
    if option is None:
        return []
    return list(option) if isinstance(option, list) else [option]


def _user_error(error: BaseException | None) -> UserError | None:
    """The `UserError` that an error of the parser was caused by, if any."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def _is_of_options(error: Exception) -> bool:
    """Whether an error is one that Lightning, or the constructor of a class that an option names, raises on options."""
    if isinstance(error, MisconfigurationException) or "Does not validate against any of" in str(error):
        return True
    if isinstance(error, OSError) or error.__traceback__ is None:
        return False
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("lightning.")
