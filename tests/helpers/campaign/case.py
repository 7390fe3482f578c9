"""A case of the campaign, what became of it, and what counts as a fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MOST_CHARACTERS = 700
MOST_SECONDS = 10.0
"""On the clock: what takes longer hangs."""
MOST_SECONDS_OF_A_REFUSAL = 1.0
"""Of processor time."""
MOST_MEGABYTES_OF_A_REFUSAL = 200.0
STATUSES = {0, 1, 2, 129, 130, 141, 143}
EXECUTED = "executed"
"""A file of this name, or an environment variable, is what the payloads of hostile files would make."""

FAULTS = ("traceback", "hang", "silent", "execution", "slow refusal", "several lines", "long message")
OUTCOMES = ("done", "refused", *FAULTS)


class Silent(AssertionError):
    """An answer is wrong, and nothing said so."""


@dataclass(frozen=True)
class Result:
    """What is left of a case when its process has ended.

    Attributes:
        status: the exit status; negative: the signal that ended the process.
        out, err: what it wrote.
        error: of a Python call, what was raised, "" if nothing was; `kind` says in which class.
        kind: "done", "refused", "silent" or "traceback", as the process itself saw it; "" if it was killed.
        cpu: seconds of processor time; memory: megabytes at the peak beyond what the parent had.
        hung: it was killed because it took too long.
        folder: its files.
    """

    status: int
    out: str
    err: str
    error: str
    kind: str
    cpu: float
    memory: float
    hung: bool
    folder: Path
    executed: bool = False


@dataclass(frozen=True)
class Case:
    """Something hostile to do.

    Attributes:
        what: the case in a line, from which a reader could repeat it.
        run: carries it out in a process of its own, in an empty folder; returns an exit status, or None where it is no
            command. Raises `Silent` where an answer is wrong.
        prepare: makes its files before the clock starts.
        check: what is silently wrong in the end, in words; None if nothing is.
        drive: called beside the running process with its id, to send signals.
        streams: for 0, 1 and 2: a file that is opened, None for a closed one; left out: an empty file, and two that
            are kept.
        killed: the process is meant to be killed, whatever its status.
        most_seconds: until it counts as a hang.
        talks: its progress is on standard error; of a failure the last line counts.
    """

    what: str
    run: Callable[[], object]
    prepare: Callable[[], None] = lambda: None
    check: Callable[[Result], str | None] = lambda result: None
    drive: Callable[[int], None] | None = None
    streams: dict[int, str | None] = field(default_factory=dict)
    killed: bool = False
    most_seconds: float = MOST_SECONDS
    talks: bool = False


@dataclass(frozen=True)
class Outcome:
    """The class of a case (one of `OUTCOMES`), and why."""

    kind: str
    index: int
    what: str
    outcome: str
    why: str
    cpu: float
    memory: float


def judge(case: Case, result: Result) -> tuple[str, str]:
    """The class of what became of a case, and the reason for it."""
    lines = [line for line in result.err.splitlines() if line.strip()]
    if result.executed:
        return "execution", "the payload of a file was executed"
    if result.hung:
        return "hang", f"no end within {case.most_seconds:g} s"
    if case.killed:
        wrong = case.check(result)
        return ("silent", wrong) if wrong else ("done", "")
    if trace := _traceback(result, lines):
        return "traceback", trace
    if result.kind == "silent":
        return "silent", result.error
    refused = result.kind == "refused" or result.status != 0
    if refused and (slow := _slow(result, lines)):
        return "slow refusal", slow
    said = [result.error] if result.kind == "refused" else lines[-1:] if case.talks else lines
    if refused and 2 not in case.streams and result.status != 141 and len(said) != 1:
        return (
            "several lines" if said else "silent",
            f"status {result.status} with {len(said)} lines: {said[:3]!r:.300}",
        )
    if refused and said and (len(said[0]) > MOST_CHARACTERS or "\n" in said[0]):
        return "long message", f"{len(said[0])} characters: {said[0][:120]}"
    if wrong := case.check(result):
        return "silent", wrong
    return ("refused", said[0] if said else "") if refused else ("done", "")


def _traceback(result: Result, lines: list[str]) -> str:
    if result.kind == "traceback":
        return result.error
    if result.status not in STATUSES:
        return f"status {result.status}: {' / '.join(lines)[-300:]}"
    if "Traceback (most recent call last)" in result.err or "a mistake in textdiff itself" in result.err:
        return " / ".join(lines)[-400:]
    return ""


def _slow(result: Result, lines: list[str]) -> str:
    if result.cpu > MOST_SECONDS_OF_A_REFUSAL or result.memory > MOST_MEGABYTES_OF_A_REFUSAL:
        return f"{result.cpu:.2f} s, {result.memory:.0f} MB: {(result.error or ' / '.join(lines))[:200]}"
    if re.search(r"memory is too small|allocate memory", result.error + result.err):
        return f"memory ran out: {(result.error or ' / '.join(lines))[:200]}"
    return ""
