"""Configurations in YAML: damaged, with hostile values, tags, anchors and encodings."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.helpers.campaign.case import Case, Result
from tests.helpers.campaign.materials import WRONG, damaged, shown
from tests.helpers.campaign.world import World, compare_config, fit_config, predict_config
from tests.helpers.training import corpora
from textdiff.cli import main

TAGS = (
    "!!int", "!!python/object/apply:os.mkdir [executed]", "!!python/name:os.system",
    "!!python/object/new:os.mkdir [[executed]]",
    "!!binary x", "!!timestamp 2001-99-99", "!!float", "!!set {a, b}", "!!omap [a]", "!!python/tuple [1]", "!x",
    "!!null x",
    "!!bool maybe", "&a [*a]", "&a {<<: *a}", "*nothing", "!!merge x", "!!str", "!!seq x", "!!map x", "0x", "1:60:99",
    ".inf",
    ".nan", "2001-01-01", "~", "yes", "0o9", "1_000", "'", "\"\\x\"", "[", "{", "- a", "|", ">", "%TAG", "? a",
    "a: b: c", "@", "`", "\t",
    "{class_path: os.mkdir, init_args: {path: executed}}",
    "{class_path: subprocess.run, init_args: {args: [mkdir, executed]}}",
    "{class_path: textdiff.no.such}", "{class_path: 1}", "{init_args: {}}", "builtins.exec", "os.getcwd",
)  # fmt: skip
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
WHOLE: tuple[bytes, ...] = (
    BOMB.encode(), b"", b"\n", b"null", b"[]", b"1", b"x", b"\xff\xfea\0", b"caf\xe9: 1", b"a: 1\na: 2",
    b"? [a]\n: 1", b"---\n---\n",
    b"{" * 20_000, b"[" * 5000 + b"]" * 5000, b"a:\n" + b" a:\n" * 2000, b"x" * 300_000, b"- a\n" * 50_000,
    b"\0" * 50, b"&a\n*a", b"!!int",
    b"Once upon a time there was a secret.\nIt was long.\n" * 500, b"trainer:\ndata:\nmodel:\n",
    b"a: !!python/object/apply:os.mkdir [executed]",
    b"\xef\xbb\xbftrainer: {}", "trainer: {}".encode("utf-16"), b"<<: {a: 1}", b"%YAML 9.9\n---\na: 1",
    b"a: |\n" + b"  x\n" * 10_000,
)  # fmt: skip


def configs(random: Random, world: World) -> Case:
    """A configuration of a command that is damaged in one place, or none at all."""
    command = random.choice(("fit", "fit", "predict", "compare"))
    seed = random.random()
    way = random.choices(("value", "tag", "bytes", "whole", "keys", "file"), (6, 4, 4, 2, 4, 1))[0]
    if way == "file":
        return special_file(random, command)
    place = random.random()

    def prepare() -> None:
        chosen = Random(seed)
        if command == "fit":
            config = fit_config(Path("."), max_steps=1, max_time="00:00:00:03")
            corpora(Path("."))
        else:
            Path("rows.txt").write_text("Lily [gap:1] ball.\nTom [gap:2].\n")
            config = predict_config(world, "rows.txt") if command == "predict" else compare_config(world)
        Path("config.yaml").write_bytes(_changed(chosen, config, way))

    def check(result: Result) -> str | None:
        if (
            result.status
            or command != "predict"
            or "predictions" not in (text := _text(result))
            or "filled" not in text
        ):
            return None
        if not any(result.folder.rglob("*filled*")):
            return "status 0, and no predictions are there"
        return None

    arguments = [command, "--config", "config.yaml"]
    what = f"textdiff {command}, {way} changed (seed {seed!r}): {_preview(random, world, command, way, seed)}"
    return Case(what, lambda: main(arguments), prepare, check, most_seconds=10 if place < 2 else 20)


def _text(result: Result) -> str:
    return (result.folder / "config.yaml").read_bytes().decode(errors="replace")


def _preview(random: Random, world: World, command: str, way: str, seed: float) -> str:
    if command == "fit":
        config = fit_config(world.folder / "trained", max_steps=1, max_time="00:00:00:03")
    else:
        config = predict_config(world, "rows.txt") if command == "predict" else compare_config(world)
    before = yaml.safe_dump(config, sort_keys=False).encode().splitlines()
    after = _changed(Random(seed), config, way).splitlines()
    return shown([line.decode(errors="replace") for line in after if line not in before][:3], 250)


def _changed(random: Random, config: dict[str, Any], way: str) -> bytes:
    if way == "whole":
        return random.choice(WHOLE)
    if way == "value":
        owner, key = random.choice(list(_places(config)))
        near = (0, 1, 2, 3, 5, -1, 0.5) if type(owner[key]) in (int, float) else (owner[key], [owner[key]])
        owner[key] = random.choice([*near, *(value for value in WRONG if _plain(value))])
        return yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode(errors="surrogatepass")
    written = yaml.safe_dump(config, sort_keys=False)
    if way == "bytes":
        return damaged(random, written.encode())
    lines = written.splitlines()
    number = random.randrange(len(lines))
    if way == "tag":
        lines[number] = lines[number].partition(":")[0] + ": " + random.choice(TAGS)
    elif random.random() < 0.5:
        del lines[number]
    else:
        lines[number] = random.choice(("x", "  ", "\t", "-", "? ")) + lines[number]
    return "\n".join(lines).encode()


def _places(config: Any):
    """Every owner and key of a value, however deep."""
    for key, value in config.items() if isinstance(config, dict) else enumerate(config):
        yield config, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def _plain(value: Any) -> bool:
    """Whether YAML can write it."""
    return isinstance(value, (type(None), bool, int, float, str, list, dict)) and "\ud800" not in str(value)


def special_file(random: Random, command: str) -> Case:
    """A configuration that is no plain file."""
    kind = random.choice(
        ("fifo", "folder", "missing", "loop", "/dev/zero", "/dev/null", "/dev/stdin", "/proc/self/mem")
    )

    def prepare() -> None:
        if kind == "fifo":
            os.mkfifo("c.yaml")
        elif kind == "folder":
            os.mkdir("c.yaml")
        elif kind == "loop":
            os.symlink("c.yaml", "c.yaml")
        elif kind.startswith("/"):
            os.symlink(kind, "c.yaml")

    return Case(f"textdiff {command} --config: {kind}", lambda: main([command, "--config", "c.yaml"]), prepare)
