"""What is around a command: its environment, its streams, and signals that come at any moment."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

from tests.helpers.campaign.case import Case, Result
from tests.helpers.campaign.materials import shown
from tests.helpers.campaign.world import TEXT, World, fit_config, predict_config
from tests.helpers.training import corpora, write_config
from textdiff.cli import main, signals

NUMBERS = ("0", "1", "-1", "39", "80", "1000000000", "9" * 400, "", "abc", "1.5", "²", "٣", "nan", "\x1b[31m", " 80 ")
ENVIRONMENT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("COLUMNS", "LINES"), NUMBERS),
    "TERM": ("", "dumb", "no-such", "xterm", "linux", "\x1b"),
    **dict.fromkeys(("LANG", "LC_ALL", "LANGUAGE"), ("", "C", "POSIX", "no.SUCH", "tr_TR.UTF-8")),
    **dict.fromkeys(("NO_COLOR", "FORCE_COLOR", "COLORTERM", "CI"), ("", "0", "1", "x")),
    **dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "HF_HOME"), ("", "/", "/no/such", "/dev/null", ".")),
    **dict.fromkeys(("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "TZ", "JUPYTER_COLUMNS"), ("", "0", "-1", "x", "10**9")),
    "TEXTDIFF_TRACEBACK": ("",),
}


def _infill(world: World, *more: str) -> list[str]:
    return ["infill", "--seed", "0", "--steps", "2", "--checkpoint", str(world.checkpoint), *more]


def environment(random: Random, world: World) -> Case:
    """Odd variables, encodings of streams and texts on standard input: the answer is whole."""
    variables = {
        name: random.choice(ENVIRONMENT[name]) for name in random.sample(sorted(ENVIRONMENT), random.randint(1, 4))
    }
    encoding = random.choice(("utf-8", "utf-8", "ascii", "latin-1", "cp1252", "utf-16", "shift_jis"))
    more = random.choice(
        (["--json"], ["--json", "--show-steps"], [], ["--show-steps"], ["--baseline", str(world.baseline)])
    )
    typed = random.choice(
        (
            None,
            TEXT.encode(),
            b"\xef\xbb\xbf" + TEXT.encode(),
            TEXT.encode("utf-16"),
            b"caf\xe9 [gap:1]",
            b"",
            b"\0" * 9,
        )
    )

    def prepare() -> None:
        Path("typed").write_bytes(typed or b"")

    def run() -> object:
        os.environ.update({name: value for name, value in variables.items() if "\0" not in value})
        sys.stdout.reconfigure(encoding=encoding)  # type: ignore[attr-defined]
        return main([*_infill(world, *more), TEXT if typed is None else "-"])

    def check(result: Result) -> str | None:
        if result.status:
            return "the text of an argument was refused" if typed is None else None
        (fill,) = world.prior.infill(TEXT, 1, steps=2, seed=0).samples[0].fills
        out = _raw(result).decode(encoding, errors="replace")
        if "--json" in more:
            return None if json.loads(out)["texts"] == world.answer["texts"] else "another answer"
        return None if _letters(fill) in _letters(out) else "the fill is not shown"

    streams: dict[int, str | None] = {} if typed is None else {0: "typed"}
    return Case(
        f"{shown(variables)} {encoding} textdiff infill {more[:1]}, typed {typed!r:.40}",
        run,
        prepare,
        check,
        streams=streams,
    )


def _letters(text: str) -> str:
    """The letters of a text that no encoding changes, whatever lines it is broken into."""
    return re.sub(r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|[^a-zA-Z]", "", text)


def _raw(result: Result) -> bytes:
    return (result.folder.parent / "out").read_bytes()


def streams(random: Random, world: World) -> Case:
    """Streams that are closed, full, of a wrong mode or unread."""
    wanted: dict[int, str | None] = {}
    for number in range(3):
        if random.random() < 0.5:
            wanted[number] = random.choice((None, "/dev/full", "/dev/null", "|") if number else (None, "/dev/null"))
    commands = (
        _infill(world, TEXT), _infill(world, "--json", TEXT), _infill(world, "-"), ["--help"], ["--version"], ["infil"],
        ["infill", "--help"], ["fit", "--help"], _infill(world, "a [gap"), ["predict", "--config", "c.yaml"],
        ["fit", "--config", "no-such"], ["evaluate", "no-such"], ["fit", "--config", "c.yaml", "--print_config"],
    )  # fmt: skip
    command = random.choice(commands)

    def prepare() -> None:
        Path("rows.txt").write_text("Lily [gap:1] ball.\n")
        write_config(Path("c.yaml"), predict_config(world, "rows.txt"))
        if command[0] == "fit":
            write_config(Path("c.yaml"), fit_config(Path(".")))

    def check(result: Result) -> str | None:
        full = wanted.get(1, "") in (None, "/dev/full")
        says = command[0] not in ("predict",) or not full
        if not result.status and full and says:
            return f"status 0, and standard output is {wanted[1]}"
        if not result.status and 1 not in wanted and command[0] != "predict" and not result.out:
            return "status 0, and nothing on standard output"
        return None

    return Case(
        f"textdiff {shown(command[:1] + command[-1:])} with streams {wanted}",
        lambda: main(command),
        prepare,
        check,
        streams=wanted,
    )


STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def interruptions(random: Random, world: World) -> Case:
    """A signal at a random moment, sometimes a second one: the command ends soon, with the status of the signal."""
    number = random.choice(list(STATUS))
    second = random.choice(list(STATUS)) if random.random() < 0.3 else None
    delay, again = (
        random.choice((0.0, random.uniform(0, 0.05), random.uniform(0, 0.6), random.uniform(0, 2))),
        random.uniform(0, 0.05),
    )
    command = random.choice(("infill", "fit", "fit", "predict", "evaluate", "calibrate", "compare", "audit"))
    arguments = {
        "infill": _infill(world, "--n", "64", "--json", "Lily [gap:32] and [gap:32] ball."),
        "evaluate": ["evaluate", str(world.text), "--checkpoint", str(world.checkpoint), "--gap-length", "4", "--json"],
        "calibrate": ["calibrate", str(world.text), "--checkpoint", "copy", "--gap-length", "4"],
        "audit": ["audit", "--world", "hmm", "--gaps", "20", "--json"],
    }.get(command, [command, "--config", "c.yaml"])

    def prepare() -> None:
        from tests.helpers.campaign.world import compare_config, copy_of

        copy_of(world.checkpoint, "copy")
        Path("rows.txt").write_text("Lily [gap:1] ball.\n" * 200)
        if command == "fit":
            corpora(Path("."))
        config: Any = {
            "fit": lambda: fit_config(Path("."), max_steps=2000),
            "compare": lambda: compare_config(world) | {"fills": 64, "gaps": 9},
        }.get(command, lambda: predict_config(world, "rows.txt", "filled"))()
        write_config(Path("c.yaml"), config)

    def drive(pid: int) -> None:
        _wait_for(pid, delay)
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            if second is not None:
                time.sleep(again)
                os.kill(pid, second)

    def check(result: Result) -> str | None:
        expected = {STATUS[number], *([STATUS[second]] if second is not None else [])}
        if result.status < 0 and second is not None and -result.status in (number, second):
            return None  # the second one ends it at once
        if result.status not in {0, *expected}:
            return f"status {result.status} after signal {number}: {result.err[-200:]}"
        if left := [path.name for path in result.folder.rglob("*.part")]:
            return f"left behind: {left}" if second is None else None
        return None

    what = f"signal {number:d}{f', then {second:d} after {again:.3f} s' if second else ''} {delay:.3f} s into {command}"
    return Case(what, lambda: _whole(arguments), prepare, check, drive, killed=True, most_seconds=15)


READY = "ready"


def _wait_for(pid: int, delay: float) -> None:
    """Wait until a case listens to signals, and then for so many seconds."""
    place = Path(f"/proc/{pid}/comm")
    until = time.monotonic() + 20
    with suppress(OSError):
        while place.read_text().strip() != READY and time.monotonic() < until:
            time.sleep(0.002)
    time.sleep(delay)


def _whole(arguments: list[str]) -> object:
    """The command as the only thing that the process does, and a sign from when on it listens to signals."""
    before: Callable[..., Any] = signals.stopping

    @contextmanager
    def stopping(whole_process: bool = False):
        with before(whole_process):
            Path("/proc/self/comm").write_text(READY)
            yield

    signals.stopping = stopping
    sys.argv = ["textdiff", *arguments]
    try:
        status: Any = main()
    except SystemExit as error:  # as the interpreter does
        status = error.code
    os._exit(status)
