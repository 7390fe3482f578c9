"""Full disks: a small file system of memory for each case, in a name space of its own that ends with its process."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import textdiff as td
from tests.helpers.campaign.case import Case, Silent
from tests.helpers.campaign.world import TEXT, World, compare_config, copy_of, fit_config, predict_config
from tests.helpers.training import corpora, write_config
from textdiff.cli import main

CLONE_NEWNS = 0x20000


@cache
def may_mount() -> bool:
    """Whether this process has the right to make a file system."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            _mount(16, "/mnt")
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def _mount(kilobytes: int, place: str = "small") -> None:
    """A file system of so many kilobytes, which only this process sees."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        raise PermissionError("no right to make a name space")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", place], check=True)


def disks(random: Random, world: World) -> Case:
    """A command on a disk with little room: what was there is still there, and what is new is whole."""
    if not may_mount():
        return Case("skipped: no right to make a file system", lambda: 0)
    kind, room = (
        random.choice(("export", "calibrate", "predict", "shards", "fit", "save", "compare", "convert")),
        random.randint(0, 400),
    )
    if random.random() < 0.4:
        room = random.randint(0, 40)

    def prepare() -> None:
        os.mkdir("small")
        _mount(8 + room + (_kilobytes(world.checkpoint) if kind == "calibrate" else 0))
        if kind == "calibrate":
            copy_of(world.checkpoint, "small/copy")
        corpora(Path("."))
        Path("rows.txt").write_text("Lily [gap:1] ball.\n" * 60)

    def run() -> object:
        status = _work(kind, world)
        sys.stdout.flush()
        if wrong := _wrong(kind, status, world):
            raise Silent(f"status {status}: {wrong}")
        return status

    return Case(f"textdiff {kind} to a disk with {room} kB", run, prepare, most_seconds=30, talks=kind == "fit")


def _kilobytes(folder: Path) -> int:
    """The room that a copy takes on a file system of memory."""
    return sum(4 + path.stat().st_size // 1024 for path in folder.rglob("*"))


def _work(kind: str, world: World) -> object:
    exporting = [str(world.trained / "run/last.ckpt"), "--tokenizer", str(world.trained / "tokenizer")]
    if kind == "save":
        td.save(world.prior, "small/out")
        return 0
    if kind in ("predict", "shards"):
        write_config(Path("c.yaml"), predict_config(world, "rows.txt", "small/filled" + ".jsonl" * (kind == "predict")))
    elif kind == "compare":
        write_config(Path("c.yaml"), compare_config(world) | {"to": "small/out"})
    elif kind == "fit":
        config = fit_config(Path("."))
        config["trainer"]["callbacks"][1]["init_args"]["dirpath"] = "small/run"
        write_config(Path("c.yaml"), config)
    commands = {
        "export": ["export", *exporting, "--to", "small/out"],
        "calibrate": ["calibrate", str(world.text), "--checkpoint", "small/copy", "--gaps", "2", "--gap-length", "2"],
        "convert": ["convert", str(world.baseline), "--to", "small/out"],
    }
    return main(commands.get(kind, ["predict" if kind == "shards" else kind, "--config", "c.yaml"]))


def _wrong(kind: str, status: object, world: World) -> str | None:
    """What a reader of the disk would stumble over."""
    if left := [path.name for path in Path("small").rglob("*") if path.name.endswith(".part")]:
        return f"left behind: {left}"
    checks: dict[str, Callable[[], Any]] = {
        "export": lambda: td.load("small/out"),
        "save": lambda: td.load("small/out"),
        "convert": lambda: td.load("small/out"),
        "calibrate": lambda: _unchanged(world),
        "predict": lambda: _rows(Path("small/filled.jsonl"), 60),
        "shards": lambda: [_rows(path, 4) for path in Path("small/filled").glob("0*.jsonl")],
        "fit": lambda: _readable(Path("small/run/last.ckpt")),
        "compare": lambda: json.loads(Path("small/out/compare.json").read_text()),
    }
    places = {
        "predict": "small/filled.jsonl",
        "shards": "small/filled",
        "fit": "small/run/last.ckpt",
        "calibrate": "small/copy",
    }
    place = Path(places.get(kind, "small/out/compare.json" if kind == "compare" else "small/out"))
    if status and not place.exists():
        return None
    try:
        checks[kind]()
    except Exception as error:
        return f"{place} is not whole: {type(error).__name__}: {error}"
    return None


def _unchanged(world: World) -> None:
    found = td.load("small/copy").infill(TEXT, 1, steps=2, seed=0)
    assert found.texts == world.answer["texts"], "another answer"


def _rows(path: Path, count: int) -> None:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(found) == count, f"{len(found)} rows of {count}"


def _readable(path: Path) -> None:
    from textdiff.training.checkpoint_files import read_checkpoint

    read_checkpoint(path)
