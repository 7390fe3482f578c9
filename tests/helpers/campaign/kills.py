"""Kills: what is started again after SIGKILL ends as if nothing had been, and leaves no file behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import torch

from tests.helpers.campaign.case import Case, Silent
from tests.helpers.campaign.world import World, copy_run, fit_config, predict_config
from tests.helpers.training import STATE, corpora, identical, write_config
from textdiff.cli import main

STEPS, ROWS = 12, 40
YOUNG = 1.05
"""Seconds until what a dead process has left counts as left."""


def start(arguments: Sequence[str]) -> int:
    """The command in a process of its own; returns its id."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.dup2(os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            os.dup2(2, 1)
            status = main(list(arguments))
            sys.stderr.flush()
        finally:
            os._exit(status)
    return pid


def finish(arguments: Sequence[str]) -> None:
    """The command from start to end.

    Raises:
        Silent: it did not end well.
    """
    _, status = os.waitpid(start(arguments), 0)
    if status:
        raise Silent(f"started again it ended with {os.waitstatus_to_exitcode(status)}: {_log()}")


def _log() -> str:
    return Path("log").read_text(errors="replace")[-300:] if Path("log").exists() else ""


def kill(arguments: Sequence[str], folder: Path, random: Random, saving: bool, longest: float) -> bool:
    """Start the command, and kill it at a random moment, or while it writes to `folder`; whether that was in time."""
    pid, skipped, seen = start(arguments), random.randrange(8), set[str]()
    until = time.monotonic() + (60 if saving else random.uniform(0, longest))
    while time.monotonic() < until and os.waitpid(pid, os.WNOHANG) == (0, 0):
        if saving and (names := _parts(folder) - seen):
            seen |= names
            if len(seen) > skipped:
                break
        time.sleep(0.0001 if saving else 0.002)
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    return False


def _parts(folder: Path) -> set[str]:
    with suppress(OSError):
        return {name for name in os.listdir(folder) if name.endswith(".part")}
    return set()


def _left(folder: Path, wanted: Callable[[str], bool]) -> None:
    if odd := sorted(path.name for path in folder.rglob("*") if not wanted(path.name)):
        raise Silent(f"left behind: {odd[:5]}")


def kills_of_fit(random: Random, world: World, saving: bool = False) -> Case:
    """A `fit` that is killed once or twice, and resumed from its last checkpoint."""
    times, seed = random.choice((1, 1, 2)), random.random()

    def run() -> None:
        chosen, last = Random(seed), Path("run/last.ckpt")
        for _ in range(times):
            kill(_fit(last), Path("run"), chosen, saving, longest=2.5)
        time.sleep(YOUNG)
        finish(_fit(last))
        _left(Path("run"), lambda name: name == "last.ckpt")
        found, expected = (
            torch.load(last, weights_only=True),
            torch.load(world.folder / "whole/run/last.ckpt", weights_only=True),
        )
        if wrong := [name for name in STATE if not identical(found[name], expected[name])]:
            raise Silent(f"not as without a kill: {wrong}")

    def prepare() -> None:
        write_config(Path("fit.yaml"), fit_config(Path("."), max_steps=STEPS))
        corpora(Path("."))

    return Case(
        f"SIGKILL to fit {'while it saves' if saving else 'at any moment'}, {times} times",
        run,
        prepare,
        most_seconds=120,
    )


def kills_of_fit_while_saving(random: Random, world: World) -> Case:
    """The same, while a checkpoint is written."""
    return kills_of_fit(random, world, saving=True)


def _fit(last: Path) -> list[str]:
    return ["fit", "--config", "fit.yaml", *(["--ckpt_path", str(last)] if last.exists() else [])]


def kills_of_predict(random: Random, world: World) -> Case:
    """A `predict` to a folder or a file that is killed, and started again."""
    to, saving, seed = random.choice(("filled", "filled", "filled.jsonl")), random.random() < 0.4, random.random()

    def prepare() -> None:
        _predict_files(world, to)

    def run() -> None:
        chosen = Random(seed)
        arguments = ["predict", "--config", "predict.yaml"]
        for _ in range(chosen.choice((1, 2))):
            kill(arguments, Path("filled" if to == "filled" else "."), chosen, saving, longest=1.2)
        time.sleep(YOUNG)
        finish(arguments)
        names = {"filled", "filled.jsonl", "rows.txt", "predict.yaml", "log", "settings.json"}
        _left(Path("."), lambda name: name in names or (name[:5].isdecimal() and name[5:] == ".jsonl"))
        if _filled(Path(to)) != _filled(world.folder / "whole" / to):
            raise Silent("not as without a kill")

    return Case(f"SIGKILL to predict to {to}{' while it writes' * saving}", run, prepare, most_seconds=120)


def _predict_files(world: World, to: str) -> None:
    Path("rows.txt").write_text("".join(f"Lily saw {i} [gap:2] in the park.\n" for i in range(ROWS)))
    write_config(Path("predict.yaml"), predict_config(world, "rows.txt", to))


def _filled(place: Path) -> str:
    files = [place] if place.is_file() else sorted(place.glob("0*.jsonl"))
    return "".join(path.read_text() for path in files)


def make_references(world: World) -> None:
    """What uninterrupted runs end with; in the folder `whole` of the world."""
    (folder := world.folder / "whole").mkdir()
    here = os.getcwd()
    os.chdir(folder)
    try:
        write_config(Path("fit.yaml"), fit_config(Path("."), max_steps=STEPS))
        corpora(Path("."))
        finish(_fit(Path("run/last.ckpt")))
        for to in ("filled", "filled.jsonl"):
            _predict_files(world, to)
            finish(["predict", "--config", "predict.yaml"])
    finally:
        os.chdir(here)


REFUSED: dict[str, tuple[Any, ...]] = {
    "data.seed": (3,), "data.length": (80,), "data.reserve": (4,), "data.streaming": (True,), "data.gap_length": (),
    "data.corruption": ("textdiff.data.RandomMasks",), "trainer.accumulate_grad_batches": (2, 3),
    "trainer.precision": ("bf16-mixed",),
    "trainer.gradient_clip_val": (1.0, 0.1), "model.init_args.network.attention": ("full",),
    "model.init_args.network.dropout": (0.1, 0.0),
    "model.init_args.seed": (2,), "model.init_args.optimizer.init_args.lr": (0.1, 1e-5),
    "model.init_args.warmup_steps": (1, 5),
    "model.init_args.network.hidden_size": (32,), "model.init_args.network.num_hidden_layers": (1, 3),
    "model.init_args.final_lr": (0.5,), "trainer.callbacks": ([],),
    "model.init_args.optimizer": ("textdiff.training.AdamW",),
}  # fmt: skip
ALLOWED: dict[str, tuple[Any, ...]] = {
    "data.batch_size": (1, 3), "data.workers": (1,), "trainer.max_steps": (5,), "trainer.log_every_n_steps": (2,),
    "data.cache": ("c",),
}  # fmt: skip


def resumptions(random: Random, world: World) -> Case:
    """A run that goes on with a changed setting or other data: refused by name, or allowed."""
    changes = {key: value for key, values in {**REFUSED, **ALLOWED}.items() for value in values}
    key = random.choice([*changes, "data"])
    value = random.choice((REFUSED | ALLOWED).get(key, ("cut", "one word", "more", "empty")))

    def prepare() -> None:
        config = copy_run(world, max_steps=4)
        if key == "data":
            text = Path("train.txt").read_text()
            changed = {
                "cut": text[: len(text) // 2],
                "one word": text.replace("dog", "cow", 1),
                "more": text * 2,
                "empty": "",
            }
            Path("other.txt").write_text(changed[str(value)])
            config["data"]["train"] = ["other.txt"]
        else:
            *way, name = key.split(".")
            part = config
            for step in way:
                part = part[step]
            part[name] = value
        write_config(Path("changed.yaml"), config)

    def run() -> object:
        status = main(["fit", "--config", "changed.yaml", "--ckpt_path", "run/last.ckpt"])
        if key in ALLOWED and status:
            raise Silent(f"{key} may change, and status {status} came")
        if key not in ALLOWED and not status:
            raise Silent(f"{key} was changed to {value}, and the run went on")
        return status

    def check(result: Any) -> str | None:
        name = "data.train" if key == "data" else key.rpartition(".")[2]
        return (
            None
            if not result.status or name in result.err or value == "empty"
            else f"refused without the name of {key}: {result.err}"
        )

    return Case(f"fit --ckpt_path with {key} = {value!r}", run, prepare, check, most_seconds=20)
