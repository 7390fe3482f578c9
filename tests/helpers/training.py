"""A tiny corpus of made-up stories, and a run that learns it in seconds."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from textdiff.data import TextDataModule

WORDS = (
    "the a little big red blue dog cat ball girl boy tree house ran sat saw liked played with and then was happy sad"
)


def stories(count: int, seed: int = 0, words: tuple[int, int] = (10, 60)) -> list[str]:
    """Texts of so many random words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS.split(), rng.integers(*words))).capitalize() + "." for _ in range(count)]


def write_corpus(path: Path, texts: Sequence[str]) -> Path:
    """A .txt file of documents."""
    path.write_text("".join(f"{text}\n<|endoftext|>\n" for text in texts), encoding="utf-8")
    return path


def corpora(folder: Path) -> dict[str, str]:
    """Files to train and to validate on: `data.train` and `data.valid`."""
    return {
        "train": str(write_corpus(folder / "train.txt", stories(40))),
        "valid": str(write_corpus(folder / "valid.txt", stories(6, seed=1))),
    }


def run_config(folder: Path, **trainer: Any) -> dict[str, Any]:
    """A `textdiff fit` of seconds: dropout, EMA, accumulation, a checkpoint at each validation."""
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
            "network": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "dropout": 0.2},
            "optimizer": {"class_path": "textdiff.training.Muon", "init_args": {"lr": 0.01}},
            "warmup_steps": 2,
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
    """A configuration as a YAML file."""
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def data_module(folder: Path, **options: Any) -> TextDataModule:
    """Data of the tiny corpus."""
    return TextDataModule(**{**run_config(folder)["data"], **options})


def trainer(folder: Path, **options: Any) -> Trainer:
    """A trainer on one CPU that is quiet and writes metrics.csv to `folder / "logs"` alone."""
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
    """The rows of metrics.csv, without what they do not hold."""
    (path,) = folder.rglob("metrics.csv")
    with path.open() as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
