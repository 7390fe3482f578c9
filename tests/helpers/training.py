"""A tiny corpus of random words, and training runs on it that take seconds."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from textdiff.data import TextDataModule

STATE = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "TextDataModule")
"""Of a checkpoint: weights and their averages, optimizer, schedule, position in the data."""

WORDS = (
    "the a little big red blue dog cat ball girl boy tree house ran sat saw liked played with and then was happy sad"
)


def stories(count: int, seed: int = 0, words: tuple[int, int] = (10, 60)) -> list[str]:
    """Texts of random words; `words` are the bounds of their number."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS.split(), rng.integers(*words))).capitalize() + "." for _ in range(count)]


def write_corpus(path: Path, texts: Sequence[str]) -> Path:
    """Write documents to a .txt file."""
    path.write_text("".join(f"{text}\n<|endoftext|>\n" for text in texts), encoding="utf-8")
    return path


def corpora(folder: Path) -> dict[str, str]:
    """Files for `data.train` and `data.valid`."""
    return {
        "train": str(write_corpus(folder / "train.txt", stories(40))),
        "valid": str(write_corpus(folder / "valid.txt", stories(6, seed=1))),
    }


def run_config(folder: Path, **trainer: Any) -> dict[str, Any]:
    """The configuration of a short `textdiff fit`: dropout, EMA, accumulation, a checkpoint at each validation."""
    files = corpora(folder)
    checkpoint = {"dirpath": str(folder / "run"), "enable_version_counter": False}
    return {
        "trainer": {
            "accelerator": "cpu",
            "max_steps": 6,
            "val_check_interval": 4,
            "limit_val_batches": 1,
            "num_sanity_val_steps": 0,
            "accumulate_grad_batches": 2,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.CSVLogger",
                "init_args": {"save_dir": str(folder / "logs"), "name": ""},
            },
            "callbacks": [
                {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.7}},
                {
                    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "init_args": checkpoint | {"filename": "last"},
                },
            ],
            **trainer,
        },
        "model": {
            "class_path": "textdiff.training.PretrainingModule",
            "init_args": {
                "network": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "dropout": 0.2},
                "optimizer": {"class_path": "textdiff.training.Muon", "init_args": {"lr": 0.01}},
                "warmup_steps": 2,
            },
        },
        "data": {
            "train": [files["train"]],
            "valid": [files["valid"]],
            "tokenizer": str(folder / "tokenizer"),
            "vocab_size": 300,
            "cache": str(folder / "cache"),
            "length": 96,
            "batch_size": 2,
            "reserve": 8,
            "gaps": 2,
            "gap_length": 8,
            "workers": 0,
        },
    }


def write_config(path: Path, config: dict[str, Any]) -> Path:
    """Write a configuration to a YAML file."""
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def data_module(folder: Path, **options: Any) -> TextDataModule:
    """Data of the tiny corpus."""
    return TextDataModule(**{**run_config(folder)["data"], **options})


def trainer(folder: Path, **options: Any) -> Trainer:
    """A quiet trainer on one CPU, which writes nothing but metrics.csv to `folder / "logs"`."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    defaults = {
        "accelerator": "cpu",
        "max_epochs": -1,
        "max_steps": 4,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
    }
    logger = CSVLogger(str(folder), name="logs", version="")
    return Trainer(**{**defaults, **quiet, "limit_val_batches": 0, "logger": logger, **options})


def metrics(folder: Path) -> list[dict[str, float]]:
    """The rows of metrics.csv, without empty fields."""
    (path,) = folder.rglob("metrics.csv")
    with path.open() as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def identical(a: Any, b: Any) -> bool:
    """Whether two nested states are bit-identical."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(identical(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(identical, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)


def includes(whole: Any, part: Any) -> bool:
    """Whether a configuration holds all values of another; of classes, the options are compared."""
    part, whole = (
        value.get("init_args", {}) if isinstance(value, dict) and {"class_path", "init_args"} & value.keys() else value
        for value in (part, whole)
    )
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and includes(whole[key], value) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(includes, whole, part))
    return bool(part == whole) or isinstance(whole, dict)
