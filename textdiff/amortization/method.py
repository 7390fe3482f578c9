"""A way to learn a posterior: who draws the fills to learn from, and which objective they go into."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from torch import Generator, Tensor, nn

from textdiff.amortization.queries import Query, QuerySet
from textdiff.amortization.task import Task

Tell = Callable[[str], None]
"""Told what is being done, for a progress line."""


class Method(nn.Module, ABC):
    """Learns by steps; what it keeps between steps (a memory, a log-normaliser) is saved with a checkpoint."""

    def prepare(
        self, task: Task, queries: QuerySet, step: int, generator: Generator, tell: Tell
    ) -> Mapping[str, float]:
        """What has to be done before a step, such as expensive inference; figures to log."""
        return {}

    @abstractmethod
    def loss(self, task: Task, query: Query, step: int, generator: Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss on some queries, differentiable in the learner's parameters, and figures to log."""
