"""Timing of ways to fill gaps: they take turns, and the median of several rounds counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import torch

from textdiff.evaluation.likelihoods import GapLikelihood
from textdiff.evaluation.memory import peak

SECONDS_PER_LOG_PROB = 1e-7
"""Seconds of the common loop for one log-probability on one thread: a rough forecast, to leave out what takes hours."""


@final
@dataclass(frozen=True)
class Way:
    """A way to fill gaps.

    Attributes:
        rows: rows that are filled at once.
        run: fills the rows, given a seed; returns the forward passes that each took part in.
        log_probs: log-probabilities that it handles; 0 if it is sure to be fast.
    """

    rows: int
    run: Callable[[int], float]
    log_probs: int = 0


@final
@dataclass(frozen=True)
class Timed:
    """Cost of one way to fill gaps.

    Attributes:
        way: its name.
        seconds: for one fill, the median of several rounds; None: left out, because it would take too long.
        passes: forward passes that a fill took part in; of the gap alone if the evidence is encoded once.
        memory: bytes at the peak beyond what was held before; None if the system does not report it.
        likelihood: of held-out gaps, if they were given and it is known.
    """

    way: str
    seconds: float | None
    passes: float | None
    memory: int | None = None
    likelihood: GapLikelihood | None = None

    def record(self) -> dict[str, Any]:
        """The figures as JSON keeps them."""
        return asdict(self) | {"likelihood": None if self.likelihood is None else self.likelihood.record()}


def measure(ways: Mapping[str, Way], rounds: int, device: torch.device, most: float = torch.inf) -> tuple[Timed, ...]:
    """Run the ways in turn; the first round warms up, and gives forward passes and memory.

    Args:
        ways: by name.
        rounds: of which the median counts.
        device: whose memory is measured, and which is waited for.
        most: seconds; a way that would take more in a round, by a rough forecast, is left out.
    """
    too_long = {name for name, way in ways.items() if way.log_probs * SECONDS_PER_LOG_PROB > most}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    passes: dict[str, float] = {}
    memory: dict[str, int | None] = {}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            if name in too_long:
                continue
            if not turn:
                with peak(device) as found:
                    passes[name] = way.run(turn)
                memory[name] = found.bytes
            else:
                start = _now(device)
                way.run(turn)
                seconds[name].append((_now(device) - start) / way.rows)
    return tuple(
        Timed(
            name,
            None if name in too_long else statistics.median(seconds[name]),
            passes.get(name),
            memory.get(name),
        )
        for name in ways
    )


def _now(device: torch.device) -> float:
    """Seconds of processor time on one CPU thread, so that other programs do not count; otherwise of the wall clock."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()
