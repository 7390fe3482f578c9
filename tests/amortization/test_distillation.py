"""The teacher's samples are kept in a cache: what may share them, and what may not."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock

import pytest
import torch

from tests.helpers.amortization import QUERIES, TEXTS, WORLD, learner
from tests.helpers.tiny import tiny
from tests.helpers.tree import ROOT
from textdiff.amortization import Distillation, Task
from textdiff.amortization.cache_key import cache_key
from textdiff.errors import UserError
from textdiff.evidence import Counts, Reward
from textdiff.inference import SMC, Exact, Importance
from textdiff.posterior import PosteriorSampler, seeded
from textdiff.samplers import Strided
from textdiff.worlds import table


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def prepare(folder: Path, task: Task | None = None, teacher: PosteriorSampler | None = None, seed: int = 0) -> set[str]:
    """Run a teacher with a cache; the names of the files that this added."""
    before = files(folder)
    method = Distillation(teacher or Importance(), teacher_samples=4, kept=2, cache=str(folder))
    method.prepare(task or Task(learner(), WORLD), QUERIES, 0, seeded(seed), lambda text: None)
    return files(folder) - before


def test_the_teacher_runs_once_for_each_query(tmp_path: Path) -> None:
    class Counting(Exact):  # type: ignore[misc]
        calls = 0

        def draw(self, *arguments):  # type: ignore[no-untyped-def]
            Counting.calls += 1
            return super().draw(*arguments)

    task, found = Task(learner(), WORLD), []
    for _ in range(2):
        method = Distillation(Counting(), teacher_samples=8, kept=4, cache=str(tmp_path))
        assert method.prepare(task, QUERIES, 0, seeded(0), lambda text: None)["round_ess"] == pytest.approx(1.0)
        assert not method.prepare(task, QUERIES, 1, seeded(0), lambda text: None)
        found.append(method.fills)
    assert Counting.calls == len(QUERIES)
    assert all(torch.equal(found[0][n][0], found[1][n][0]) for n in range(3))


def test_targets_with_one_label_and_different_weights_share_nothing(tmp_path: Path) -> None:
    targets = [tiny(WORLD.tokenizer, causal=True, num_hidden_layers=layers) for layers in (1, 2)]
    again = tiny(WORLD.tokenizer, causal=True, num_hidden_layers=1)
    with torch.no_grad():
        again.network.head.weight.mul_(1.5)
    assert len({target.label for target in (*targets, again)}) == 1
    for target in (*targets, again):
        assert prepare(tmp_path, Task(learner(), target)), "found the samples of another target"
    assert not prepare(tmp_path, Task(learner(), targets[0]))


def test_worlds_with_one_label_and_different_probabilities_share_nothing(tmp_path: Path) -> None:
    other = table(dict.fromkeys(TEXTS, 1.0), WORLD.tokenizer)
    assert WORLD.label == other.label
    assert prepare(tmp_path, Task(learner(), WORLD)) and prepare(tmp_path, Task(learner(), other))


def test_whatever_decides_the_samples_is_part_of_the_key(tmp_path: Path) -> None:
    prior = learner()
    reward = Reward(Counts(["a"], pieces=True))
    changed = learner()
    with torch.no_grad():
        changed.network.head.weight.mul_(1.5)
    assert prepare(tmp_path)
    assert prepare(tmp_path, seed=1)
    assert prepare(tmp_path, teacher=SMC())
    assert prepare(tmp_path, Task(changed, WORLD))
    assert prepare(tmp_path, Task(prior.with_policy(Strided(1)), WORLD))
    assert prepare(tmp_path, Task(prior, WORLD, reward))
    assert prepare(tmp_path, Task(prior, WORLD, replace(reward, temperature=0.5)))
    assert not prepare(tmp_path) and not prepare(tmp_path, Task(prior, WORLD, replace(reward)))


def test_the_key_is_the_same_in_every_process() -> None:
    """`SMC` holds a function, whose `repr` is its address in memory, and the order of a set depends on the process."""
    code = (
        "from tests.helpers.amortization import QUERIES, WORLD, learner; from textdiff.inference import SMC; "
        "from textdiff.amortization.cache_key import cache_key; from textdiff.evidence import Counts, Reward; "
        "print(cache_key(SMC(), learner(), WORLD, Reward(Counts({'a', 'b', 'ab'})), QUERIES.items))"
    )
    keys = []
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code]
        process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        assert process.returncode == 0, process.stderr
        keys.append(process.stdout)
    assert len(keys[0].strip()) == 64 and keys[0] == keys[1]


def test_functions_of_one_name_and_different_content_have_different_keys() -> None:
    def scaled(factor: float) -> Reward:
        return Reward(lambda texts: [factor * len(text) for text in texts])

    assert cache_key(scaled(1.0)) == cache_key(scaled(1.0)) != cache_key(scaled(2.0))
    assert cache_key(partial(scaled, 1.0)) != cache_key(partial(scaled, 2.0))


def test_what_cannot_be_described_cannot_be_cached() -> None:
    with pytest.raises(UserError, match=r"type _thread\.lock cannot be kept in a cache"):
        cache_key(Lock())


def test_rounds_are_never_read_from_a_cache(tmp_path: Path) -> None:
    method = Distillation(Importance(), teacher_samples=4, kept=2, round_steps=5, cache=str(tmp_path))
    method.prepare(Task(learner(), WORLD), QUERIES, 0, seeded(0), lambda text: None)
    assert not files(tmp_path)


@pytest.mark.parametrize("options", [{"teacher_samples": 0}, {"kept": 0}, {"draws": 0}, {"round_steps": 0}], ids=str)
def test_a_number_below_one_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="1 or more"):
        Distillation(Importance(), **options)
