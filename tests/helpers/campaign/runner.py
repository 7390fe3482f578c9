"""The campaign: so many cases of each kind, each repeatable by seed, kind and index."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random

from tests.helpers.campaign import (
    arguments,
    calls,
    configs,
    damage,
    disks,
    kills,
    patterns,
    rows,
    surroundings,
    templates,
)
from tests.helpers.campaign.case import OUTCOMES, Case, Outcome
from tests.helpers.campaign.forked import run_case
from tests.helpers.campaign.world import World, make_world

KINDS: dict[str, tuple[Callable[[Random, World], Case], int]] = {
    "kills of fit": (kills.kills_of_fit, 30),
    "kills of fit while saving": (kills.kills_of_fit_while_saving, 20),
    "kills of predict": (kills.kills_of_predict, 20),
    "resumptions": (kills.resumptions, 80),
    "full disks": (disks.disks, 100),
    "signals": (surroundings.interruptions, 150),
    "configurations": (configs.configs, 350),
    "rows": (rows.rows, 200),
    "runs": (damage.runs, 150),
    "checkpoints": (damage.checkpoints, 600),
    "adapters": (damage.adapters, 200),
    "arguments": (arguments.arguments, 2300),
    "environment": (surroundings.environment, 250),
    "streams": (surroundings.streams, 250),
    "templates": (templates.templates, 1900),
    "canvases": (templates.canvases, 1100),
    "constraints": (patterns.constraints, 400),
    "calls": (calls.calls, 1600),
    "regular expressions": (patterns.regexes, 900),
}
"""How cases of a kind are made, and how many there are of 10,000 and more; those that take longest come first."""
KILLS = tuple(kind for kind in KINDS if kind.startswith("kills"))

Task = tuple[str, int]


def tasks(cases: int, kinds: Collection[str] = tuple(KINDS), kill_share: float = 1.0) -> list[Task]:
    """About so many cases in all, at least one of each kind; of the kills, a share of what that makes."""
    whole = sum(count for _, count in KINDS.values())
    counts = {
        kind: max(1, round(count * cases / whole * (kill_share if kind in KILLS else 1)))
        for kind, (_, count) in KINDS.items()
        if kind in kinds
    }
    return [(kind, index) for kind, count in counts.items() for index in range(count)]


def case_of(task: Task, seed: int, world: World) -> Case:
    """The case of a kind and an index."""
    kind, index = task
    return KINDS[kind][0](Random(f"{seed}/{kind}/{index}"), world)


class _Shared:
    """What the worker processes inherit by the fork."""

    world: World
    seed: int
    folder: Path


def _carry_out(task: Task) -> Outcome:
    kind, index = task
    try:
        case = case_of(task, _Shared.seed, _Shared.world)
    except Exception as error:
        return Outcome(kind, index, "the case could not be made", "traceback", repr(error), 0.0, 0.0)
    return run_case(kind, index, case, _Shared.folder)


def campaign(todo: Sequence[Task], seed: int = 0, jobs: int = 2) -> Iterator[Outcome]:
    """Carry the cases out, in so many processes at once; nothing is left behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the temporary folder goes
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        world = make_world(Path(folder, "world"))
        if {kind for kind, _ in todo} & set(KILLS):
            kills.make_references(world)
        _Shared.world, _Shared.seed, _Shared.folder = world, seed, Path(folder, "cases")
        _Shared.folder.mkdir()
        sys.stdout.flush()
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
            yield from pool.map(_carry_out, todo, chunksize=1)


def table(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """The number of outcomes of each class, by kind, and of all."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS if any(o.kind == kind for o in outcomes)}
    for outcome in outcomes:
        counts[outcome.kind][outcome.outcome] += 1
    counts["all"] = sum(counts.values(), Counter())
    return {
        kind: {"cases": count.total(), **{name: count[name] for name in OUTCOMES}} for kind, count in counts.items()
    }
