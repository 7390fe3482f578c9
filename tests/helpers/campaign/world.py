"""What cases share and none of them changes: models, checkpoints and files, made once before the first fork."""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import textdiff as td
from tests.helpers.tiny import CORPUS, tiny
from tests.helpers.training import corpora, run_config, write_config

TEXT = "Lily lost her [gap:2-4]. She was happy again."


@dataclass(frozen=True)
class World:
    """The shared files lie in `folder`."""

    folder: Path

    @cached_property
    def prior(self) -> Any:
        """A prior with random weights, saved in `checkpoint`."""
        return tiny()

    @cached_property
    def causal(self) -> Any:
        """Its AR baseline, saved in `baseline`."""
        return tiny(causal=True)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "tiny"

    @property
    def baseline(self) -> Path:
        return self.folder / "tiny-ar"

    @property
    def text(self) -> Path:
        """Held-out text."""
        return self.folder / "held-out.txt"

    @property
    def trained(self) -> Path:
        """The folder of a finished run, with `fit.yaml`, `run/last.ckpt` and `tokenizer`."""
        return self.folder / "trained"

    @cached_property
    def answer(self) -> dict[str, Any]:
        """What the prior answers to `TEXT`."""
        samples = self.prior.infill(TEXT, 1, steps=2, seed=0)
        return {"texts": samples.texts, "log_q": samples.log_q.tolist()}


def make_world(folder: Path) -> World:
    """Import all that any command imports, and make the shared files."""
    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(td.__path__, "textdiff."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("lightning.pytorch", "matplotlib.pyplot", "peft", "datasets", "torchmetrics", "tensorboard"):
        importlib.import_module(name)
    folder.mkdir()
    world = World(folder)
    texts = [" ".join(CORPUS[i : i + 5]) for i in range(0, len(CORPUS), 3)]
    world.text.write_text("".join(f"{text}\n<|endoftext|>\n" for text in texts), encoding="utf-8")
    td.save(world.prior, world.checkpoint)
    td.save(world.causal, world.baseline)
    td.models.save_adapter(_adapted(world), folder / "adapter", str(world.checkpoint))
    assert world.answer["texts"]
    world.trained.mkdir()
    pid = os.fork()  # training would leave threads and caches behind
    if not pid:
        status = 1
        try:
            _train(world.trained)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0, "the shared run failed"
    gc.collect()
    gc.freeze()  # so that a collection in a child copies no pages
    return world


def _adapted(world: World) -> Any:
    """The tiny network with an adapter, which has no effect yet."""
    from textdiff.models import LoRA

    network = td.load(world.checkpoint).network
    LoRA(rank=2).attach(network)
    return network


def _train(folder: Path) -> None:
    from textdiff.cli import main

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    assert main(["fit", "--config", str(write_config(folder / "fit.yaml", fit_config(folder)))]) == 0


def fit_config(folder: Path, **trainer: Any) -> dict[str, Any]:
    """The configuration of a training run of a second, with all that a checkpoint can hold."""
    options = {"max_steps": 2, "accumulate_grad_batches": 1, "limit_val_batches": 0, "enable_model_summary": False}
    config = run_config(folder, **(options | trainer))
    config["trainer"]["callbacks"][1]["init_args"]["every_n_train_steps"] = 1
    return config


def predict_config(world: World, rows: str, to: str = "filled.jsonl") -> dict[str, Any]:
    """The configuration of a `predict` with the tiny prior."""
    return {
        "trainer": {"logger": False, "accelerator": "cpu", "enable_progress_bar": False},
        "data": {"predict": [rows], "field": "text", "batch_size": 4},
        "model": {
            "class_path": "textdiff.training.PredictionModule",
            "init_args": {"checkpoint": str(world.checkpoint), "fill": {"n": 1, "steps": 2, "seed": 0}},
        },
        "predictions": {"path": to, "rows": 4},
    }


def compare_config(world: World) -> dict[str, Any]:
    """The configuration of a small comparison."""
    return {
        "files": [str(world.text)], "gaps": 1, "gap_length": 2, "fills": 2, "timed": 1, "to": "compared",
        "candidates": [
            {"name": "prior", "checkpoint": str(world.checkpoint), "policy": "strided", "steps": 2},
            {"name": "baseline", "checkpoint": str(world.baseline)},
        ],
    }  # fmt: skip


def copy_of(folder: Path, to: str) -> Path:
    """A copy that a case may damage, under another name."""
    return Path(shutil.copytree(folder, to))


def copy_run(world: World, **changes: Any) -> dict[str, Any]:
    """A copy of the finished run in the working folder, and its configuration."""
    shutil.copytree(world.trained, ".", dirs_exist_ok=True)
    config = fit_config(Path(), **changes)
    corpora(Path())
    return config


def answer_in(out: str) -> dict[str, Any]:
    """The JSON object on standard output."""
    found = json.loads(out)
    assert isinstance(found, dict)
    return found
