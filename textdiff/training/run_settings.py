"""The settings that the result of a run depends on, by option, for comparison when it is resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from pydoc import locate
from typing import Any, Protocol, runtime_checkable

from lightning import LightningDataModule
from lightning.pytorch.callbacks import (
    Checkpoint,
    DeviceStatsMonitor,
    EarlyStopping,
    LearningRateMonitor,
    ModelSummary,
    ProgressBar,
    Timer,
)
from transformers import PreTrainedTokenizerBase

from textdiff.data.corpus import fingerprint
from textdiff.data.sources import Source, parse_sources
from textdiff.training.callbacks import SampleFill, Throughput

WITHOUT_EFFECT = (
    "data.workers",
    "data.cache",
    "data.predict",
    "data.test",
    "data.vocab_size",  # of a tokenizer that is not there yet; the tokenizer itself is compared
    "model.compile",
    "model.checkpoint_activations",
    "model.init_from",  # the weights are those of the checkpoint
    "model.to",
    "model.valid_draws",
    "model.truth",
)
"""Options of data and model that change nothing in training."""

ALLOWED = (
    "data.batch_size",
    "data.valid",
    "data.gaps",
    "data.gap_length",
    "data.valid_samples",
    "data.unseen",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.accelerator",
)
"""Options that a resumed run may change: the rows go on where they were, and the schedule is moved to its end."""

OF_TRAINER = (
    *(name for name in ALLOWED if name.startswith("trainer.")),
    "trainer.precision",
    "trainer.accumulate_grad_batches",
    "trainer.gradient_clip_val",
    "trainer.gradient_clip_algorithm",
    "trainer.callbacks",
)
"""Options of the trainer that are kept; the others concern logging, paths and speed."""

PASSIVE_CALLBACKS = (
    Checkpoint,
    DeviceStatsMonitor,
    EarlyStopping,
    LearningRateMonitor,
    ModelSummary,
    ProgressBar,
    SampleFill,
    Throughput,
    Timer,
)
"""Callbacks that watch the training, save or end it; any other may change what is learnt."""

_BLOCK, _BLOCKS = 2**20, 64


@runtime_checkable
class HasTrainingSources(Protocol):
    """A data module that can say where its training text comes from."""

    @property
    def training_sources(self) -> Sequence[str | Source]:
        """Sources of the text to train on."""
        ...


def run_settings(config: Mapping[str, Any], data: LightningDataModule) -> dict[str, Any]:
    """Plain values by option, such as `data.seed`, `model.network.attention` or `trainer.precision`.

    A path stands for what it holds: files and folders may move, and other content is another setting.

    Args:
        config: the parsed options of the command, with all defaults.
        data: the data module that they make.
    """
    options = {f"trainer.{name}": value for name, value in _plain(config["trainer"]).items()}
    settings = {name: value for name, value in options.items() if name in OF_TRAINER}
    settings["trainer.callbacks"] = [
        _content(callback) for callback in options["trainer.callbacks"] or () if not _is_passive(callback)
    ]
    for part in ("data", "model"):
        found = _flat(part, _plain(config[part]))
        settings |= {name: _content(value) for name, value in found.items() if name not in WITHOUT_EFFECT}
    if not settings.get("data.streaming"):
        settings.pop("data.buffer", None)
    if isinstance(data, HasTrainingSources):
        held_out = ["less its end, which is held out"] if settings.get("data.valid", "none") == [] else []
        settings["data.train"] = [*(_identity(source) for source in parse_sources(data.training_sources)), *held_out]
    if isinstance(tokenizer := getattr(data, "tokenizer", None), PreTrainedTokenizerBase):
        settings["data.tokenizer"] = fingerprint(tokenizer)
    settings.pop("model.tokenizer", None)
    return settings


def _plain(value: Any) -> Any:
    """Nested options as dictionaries, lists and plain values."""
    if hasattr(value, "as_dict"):
        value = value.as_dict()
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Nested options by their names on the command line; a class has the name of the option that it is given for."""
    if not isinstance(value, dict):
        return {name: value}
    flat = {name: value["class_path"]} if "class_path" in value else {}
    rest = value.get("init_args") or {} if "class_path" in value else value
    for key, inner in rest.items():
        flat |= _flat(f"{name}.{key}", inner)
    return flat


def _content(value: Any) -> Any:
    """A value in which each path is replaced by what it holds."""
    if isinstance(value, dict):
        return {name: _content(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_content(inner) for inner in value]
    if not isinstance(value, str) or not value or len(value) > 1000 or "\0" in value:
        return value
    path = Path(value)
    files = sorted(file for file in path.glob("*.*") if file.suffix in (".json", ".safetensors") and file.is_file())
    if path.is_file() or (path.is_dir() and files):
        return " ".join(digest(file) for file in (files or [path]))
    return value


def _identity(source: Source) -> str:
    """What a source holds; of a file its content, wherever it is."""
    version = source.version()
    if version and isinstance(version[0], str) and Path(version[0]).is_file():
        path = Path(version[0])
        return f"{path.stat().st_size:,} bytes {digest(path)}"
    return " ".join([source.name, *(hashlib.sha256(str(version).encode()).hexdigest()[:8] for _ in version[:1])])


def _is_passive(callback: Any) -> bool:
    named = locate(callback["class_path"])
    return isinstance(named, type) and issubclass(named, PASSIVE_CALLBACKS)


def digest(path: Path) -> str:
    """A hash of the size of a file and of its content: of all of it or, of a large file, of 64 MiB spread over it."""
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= _BLOCK * _BLOCKS:
            found.update(file.read())
        else:
            for block in range(_BLOCKS):
                file.seek(block * (size - _BLOCK) // (_BLOCKS - 1))
                found.update(file.read(_BLOCK))
    return found.hexdigest()[:12]
