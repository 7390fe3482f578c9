"""Arguments of every command: options of all kinds with odd values."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from functools import cache
from random import Random

from tests.helpers.campaign.case import Case, Result
from tests.helpers.campaign.materials import ODD, shown, template
from tests.helpers.campaign.world import TEXT, World
from textdiff.cli import COMMANDS, main

VALUES = (
    "", " ", "0", "1", "2", "-1", "1.5", "nan", "inf", "-inf", "1e999", "1_0", "٣", "²", "10**9", "1000000000",
    "9" * 25,
    "18446744073709551616", "0x10", "x", "null", "[]", "{}", "[1,2]", "true", ".", "/dev/null", "no/such/folder",
    "README.md", "a\nb", "--", "-", "strided", "strided:2", "strided:0", "strided:x", "entropy", "remasking:1000000",
    "nothing:3", "cpu", "cuda", "cuda:99", "meta", "float32", "int8", "hmm", "world:hmm", "arithmetic-99", "grammar^",
    "hmm^abc=1", "world:arithmetic-3:100000000:9", "hub:no/such", "registry:x", "é", "🐈", "stories:x", "~nobody",
    "*.txt",
    "x" * 5000, "(", "[^]]+", "(a{1000}){1000}", "dog", "file.ckpt", "executed", "__import__('os').mkdir('executed')",
    "!!python/object/apply:os.mkdir [executed]", "@file", "%s", "1,2,3", ":", "=", "a=b",
)  # fmt: skip
HEAVY = ("--texts", "--fills", "--gaps", "--draws", "--n", "--votes", "--most", "--slots", "--rounds", "--gaps")
LIGHTNING = ("fit", "validate", "test", "predict", "compare")


@cache
def options_of(command: str) -> tuple[str, ...]:
    """The options that the help of a command names."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main([command, "--help"])
    return tuple(sorted(set(re.findall(r"--[A-Za-z][\w.-]*", out.getvalue()))))


def _sensible(command: str, world: World) -> list[str]:
    """Arguments that are right and let a command end soon."""
    prior, other = str(world.checkpoint), str(world.baseline)
    few = ["--gaps", "2", "--gap-length", "2"]
    return {
        "infill": ["--checkpoint", prior, "--steps", "1", TEXT],
        "export": [
            str(world.trained / "run/last.ckpt"),
            "--tokenizer",
            str(world.trained / "tokenizer"),
            "--to",
            "out",
        ],
        "convert": [other, "--to", "out"],
        "evaluate": [str(world.text), "--checkpoint", prior, "--baseline", other, "--texts", "2", *few],
        "calibrate": [str(world.text), "--checkpoint", "no-checkpoint", *few],
        "audit": [
            "--target",
            other,
            "--checkpoint",
            prior,
            str(world.text),
            "--draws",
            "2",
            "--policies",
            "strided:1",
            *few,
        ],
        "lengths": [str(world.text), "--checkpoint", prior, "--slots", "2", "--draws", "2", "--gaps", "1"],
        "questions": ["world:arithmetic-3:2:9", "--checkpoint", prior, "--votes", "1", "--steps", "1"],
        "bench": [
            str(world.text),
            "--checkpoint",
            prior,
            "--baseline",
            other,
            "--rounds",
            "1",
            "--most",
            "0.1",
            "--gaps",
            "1",
        ],
        "compare": ["--config", "no-such"],
    }.get(command, ["--config", "no-such"])


def arguments(random: Random, world: World) -> Case:
    """A command with some options that are odd, unknown or misspelt."""
    if random.random() < 0.05:
        given = [random.choice((*ODD, *VALUES)).replace("\0", "") for _ in range(random.randint(0, 3))]
    else:
        command = random.choice((*COMMANDS, "infill", "infill", "evaluate", "questions"))
        given = [command, *_sensible(command, world)]
        for _ in range(random.choice((1, 1, 2, 3))):
            way = random.random()
            place = random.randrange(1, len(given) + 1)
            known = options_of(command)
            if way < 0.6:
                option, value = random.choice(known), random.choice(VALUES)
                given += [f"{option}={value}"] if random.random() < 0.3 else [option, value]
            elif way < 0.7:
                given[place:place] = [random.choice(known)]
            elif way < 0.8 and len(given) > 2:
                del given[place - 1 if place > 1 else 1]
            elif way < 0.9:
                given[place:place] = [random.choice((*VALUES, template(random).replace("\0", "")))]
            else:
                option = random.choice(known)
                cut = random.randrange(2, len(option))
                given += [option[:cut] + random.choice("xé-=") + option[cut:], "1"]
    given = [word.encode(errors="ignore").decode() for word in given]
    return Case(f"textdiff {shown(given, 400)}", lambda: main(given), lambda: _files(), check=_written(given))


def _files() -> None:
    """Files that arguments may name."""
    os.mkdir("folder")
    for name, content in {
        "file.ckpt": b"PK",
        "README.md": b"# x\n",
        "a.txt": b"Tom ran.\n",
        "b.jsonl": b"{}\n",
    }.items():
        with open(name, "wb") as file:
            file.write(content)


def _written(given: list[str]):
    def check(result: Result) -> str | None:
        if result.status or not given or {"-h", "--help", "--print_config"} & {word.split("=")[0] for word in given}:
            return None
        if not result.out.strip():
            return None if given[0] in LIGHTNING else "status 0, and nothing was written"
        if "--json" in given:
            json.loads(result.out)
        if given[0] in ("export", "convert") and not any(result.folder.rglob("*.safetensors")):
            return "status 0, and no weights were written in the working folder"
        return None

    return check
