"""The campaign sees each kind of fault where one is planted, and leaves nothing behind."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.helpers.campaign.case import EXECUTED, FAULTS, OUTCOMES, Case, Outcome, Silent
from tests.helpers.campaign.forked import run_case
from tests.helpers.campaign.materials import damaged
from tests.helpers.campaign.runner import KILLS, KINDS, table, tasks
from textdiff.errors import UserError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and pidfd")


def refuse(message: str) -> int:
    sys.stderr.write(message)
    return 2


def fail(error: BaseException) -> None:
    raise error


def wait(status: int) -> int:
    time.sleep(30)
    return status


def spin() -> int:
    until = time.process_time() + 1.2
    while time.process_time() < until:
        pass
    return refuse("textdiff: too late\n")


def eat() -> int:
    sys.stderr.write(f"textdiff: {len(bytes(b'x' * 300_000_000)) // 10**6} MB\n")
    return 2


def execute() -> int:
    os.mkdir(EXECUTED)
    return refuse("textdiff: refused, but too late\n")


PLANTED: dict[str, tuple[Callable[[], object], str]] = {
    "an answer": (lambda: 0, "done"),
    "a refusal": (lambda: refuse("textdiff: no\n"), "refused"),
    "a refused call": (lambda: fail(UserError("n is 0")), "refused"),
    "a call with a name that is none": (lambda: refuse(no_such="x"), "refused"),  # type: ignore[call-arg]
    "a traceback": (lambda: fail(KeyError("x")), "traceback"),
    "a printed traceback": (lambda: refuse("Traceback (most recent call last):\n"), "traceback"),
    "a caught mistake": (lambda: refuse("textdiff: a mistake in textdiff itself (KeyError)\n"), "traceback"),
    "a type error from within": (lambda: len(5), "traceback"),  # type: ignore[arg-type]
    "an odd status": (lambda: 77, "traceback"),
    "a crash": (lambda: os.kill(os.getpid(), 9), "traceback"),
    "a hang": (lambda: wait(0), "hang"),
    "an oracle": (lambda: fail(Silent("wrong")), "silent"),
    "a refusal without a word": (lambda: 2, "silent"),
    "chatter": (lambda: refuse("a\nb\n"), "several lines"),
    "a long line": (lambda: refuse("x" * 701), "long message"),
    "a payload": (execute, "execution"),
    "a payload in the environment": (lambda: os.environ.update({EXECUTED: "1"}), "execution"),
    "a slow refusal": (spin, "slow refusal"),
    "a large refusal": (eat, "slow refusal"),
    "a refusal by the machine": (lambda: refuse("textdiff: the memory is too small\n"), "slow refusal"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_seen(name: str, tmp_path: Path) -> None:
    run, expected = PLANTED[name]
    here = os.getcwd()
    found = run_case("planted", 3, Case(name, run, most_seconds=1 if expected == "hang" else 30), tmp_path)
    assert found.outcome == expected, found
    assert (found.kind, found.index, found.what) == ("planted", 3, name)
    assert not list(tmp_path.iterdir()) and os.getcwd() == here and EXECUTED not in os.environ


def test_a_check_sees_the_files_of_a_case(tmp_path: Path) -> None:
    written = Case(
        "x", lambda: Path("out.txt").write_text("") and None, check=lambda result: str(list(result.folder.iterdir()))
    )
    assert "out.txt" in run_case("planted", 0, written, tmp_path).why
    broken = Case("x", lambda: 0, check=lambda result: fail(ValueError("no JSON")))
    assert run_case("planted", 0, broken, tmp_path).outcome == "silent"


def test_streams_are_those_of_the_case(tmp_path: Path) -> None:
    def run() -> int:
        assert sys.stdin is None and os.isatty(1) is False
        print("lost", flush=True)
        return 0

    broken = Case("x", run, streams={0: None, 1: "|", 2: "/dev/null"})
    assert "BrokenPipeError" in run_case("planted", 0, broken, tmp_path).why


def test_processes_that_a_case_leaves_are_ended(tmp_path: Path) -> None:
    note = tmp_path / "note"

    def run() -> int:
        if not (pid := os.fork()):
            time.sleep(60)
        note.write_text(str(pid))
        return 0

    assert run_case("planted", 0, Case("x", run), tmp_path).outcome == "done"
    state = Path("/proc", note.read_text(), "stat")
    until = time.monotonic() + 10
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_share_of_each_kind() -> None:
    todo = tasks(10_600)
    counts = {kind: len([task for task in todo if task[0] == kind]) for kind in KINDS}
    assert len(todo) == len(set(todo)) >= 10_000 and all(counts.values())
    assert counts["kills of fit"] + counts["kills of fit while saving"] >= 50 and counts["kills of predict"] >= 20
    assert counts["kills of fit while saving"] >= 20
    few = tasks(300, kill_share=0.1)
    assert {kind for kind, _ in few} == set(KINDS) and len(few) < 330
    assert all(len([task for task in few if task[0] == kind]) == 1 for kind in KILLS)


def test_the_table_counts_outcomes() -> None:
    def outcome(kind: str, name: str) -> Outcome:
        return Outcome(kind, 0, "", name, "", 0.0, 0.0)

    found = table([outcome("rows", "done"), outcome("rows", "hang"), outcome("calls", "refused")])
    assert list(found) == ["rows", "calls", "all"]
    assert found["rows"]["cases"] == 2 and found["all"] == {"cases": 3, **{name: 0 for name in OUTCOMES}} | {
        "done": 1, "refused": 1, "hang": 1
    }  # fmt: skip
    assert set(FAULTS) < set(OUTCOMES)


def test_damage_is_repeatable_and_of_many_kinds() -> None:
    content = bytes(range(256)) * 4
    found = [damaged(Random(seed), content) for seed in range(60)]
    assert found == [damaged(Random(seed), content) for seed in range(60)]
    assert len(set(found)) > 40 and any(len(one) == len(content) != 0 and one != content for one in found)
