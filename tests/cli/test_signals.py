"""Ctrl-C, SIGTERM and SIGHUP end a command in order, with their statuses; a second one ends it at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.processes import hear_signals, kill, start_fit, wait_until
from tests.helpers.training import STATE, identical, run_config, write_config
from tests.helpers.tree import ROOT
from textdiff.cli import main, signals
from textdiff.training import TrainingModule

STATUSES = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "hung up")]

STANDING_IN = """
import os, sys, time, types
def run(arguments):
    print("ready", flush=True)
    {body}
    return 0
sys.modules["textdiff.cli.infill"] = types.SimpleNamespace(run=run)
from textdiff.cli import main
sys.exit(main())
"""


@contextmanager
def command(body: str, before: Callable[[], None] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process in which a command does what `body` says, once it does it."""

    def begin() -> None:
        hear_signals()
        if before is not None:
            before()

    pipe = subprocess.PIPE
    code = STANDING_IN.format(body=body)
    with subprocess.Popen(
        [sys.executable, "-c", code, "infill"], cwd=ROOT, stdout=pipe, stderr=pipe, text=True, preexec_fn=begin
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.1)  # a signal just before a sleep is seen after it
        yield process
        process.kill()


@pytest.mark.parametrize(("number", "status", "word"), STATUSES)
@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(60)",
        "exec('try: time.sleep(60)\\nexcept BaseException: time.sleep(60)')",  # as some imports do
        "exec('class A:\\n def __del__(self): time.sleep(60)\\nA()')",  # where exceptions are ignored
        "exec('try: time.sleep(60)\\nfinally: raise RuntimeError')",
        "exec('try: time.sleep(60)\\nexcept BaseException: pass')",
    ],
    ids=["at work", "caught", "in a destructor", "turned into another error", "caught at the end"],
)
def test_a_signal_ends_a_command(body: str, number: int, status: int, word: str) -> None:
    with command(body) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (status, "", f"textdiff: {word}\n")


def test_a_second_signal_ends_it_at_once() -> None:
    with command("exec('try: time.sleep(60)\\nfinally: print(1, flush=True); time.sleep(60)')") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None and process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=1)
    assert process.returncode in (143, -signal.SIGTERM)


def test_what_the_caller_ignores_stays_ignored() -> None:
    with command("time.sleep(0.5)", before=lambda: ignore(signal.SIGHUP, signal.SIGINT)) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def ignore(*numbers: signal.Signals) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def test_workers_leave_ctrl_c_to_their_parent_and_end_without_a_word() -> None:
    body = "pid = os.fork(); time.sleep(60) if not pid else print(pid, flush=True); os.waitpid(pid, 0)"
    with command(body) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        os.kill(worker, signal.SIGINT)
        time.sleep(0.2)
        assert process.poll() is None
        os.kill(worker, signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_the_handlers_of_a_caller_come_back() -> None:
    before = [signal.getsignal(number) for number in (*signals.STOPPING, signal.SIGALRM)]
    assert main(["--version"]) == 0
    assert [signal.getsignal(number) for number in (*signals.STOPPING, signal.SIGALRM)] == before


def test_a_fit_saves_its_step_and_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal in the middle of an accumulation: the step is completed, saved, and the run resumed from there."""
    config = run_config(tmp_path, val_check_interval=100, max_steps=6)
    config["trainer"]["callbacks"][1]["init_args"]["every_n_train_steps"] = 2
    path = str(write_config(tmp_path / "fit.yaml", config))
    last = tmp_path / "run" / "last.ckpt"
    assert main(["fit", "--config", path]) == 0
    expected = torch.load(last, weights_only=True)
    last.unlink()

    step = TrainingModule.training_step

    def signalled(module: TrainingModule, data: Any, batch_idx: int) -> torch.Tensor:
        if batch_idx == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(module, data, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", signalled)
        assert main(["fit", "--config", path]) == 143
    assert torch.load(last, weights_only=True)["global_step"] == 3
    assert main(["fit", "--config", path, "--ckpt_path", str(last)]) == 0
    resumed = torch.load(last, weights_only=True)
    assert all(identical(resumed[name], expected[name]) for name in STATE)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status", "word"), STATUSES[:2])
def test_a_fit_in_a_process_of_its_own(number: int, status: int, word: str, tmp_path: Path) -> None:
    path = write_config(tmp_path / "fit.yaml", run_config(tmp_path, max_steps=10**6, val_check_interval=10))
    process = start_fit(path)
    try:
        wait_until((tmp_path / "run" / "last.ckpt").exists, process)
        os.killpg(process.pid, number)
        assert process.wait(timeout=60) == status
    finally:
        kill(process)
