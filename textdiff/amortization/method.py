"""The interface of a method that learns a posterior: which fills it learns from, and by which objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from torch import Generator, Tensor, nn

from textdiff.amortization.queries import Query, QuerySet
from textdiff.amortization.task import Task

Progress = Callable[[str], None]
"""Called with a line that says what is being done."""


class Method(nn.Module, ABC):
    """Learns step by step; its state between steps (a replay memory, log-normalisers) is saved with a checkpoint."""

    def prepare(
        self, task: Task, queries: QuerySet, step: int, generator: Generator, progress: Progress
    ) -> Mapping[str, float]:
        """Do what has to be done before a step, such as expensive inference; returns metrics to log."""
        return {}

    @abstractmethod
    def loss(self, task: Task, query: Query, step: int, generator: Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss on some queries, differentiable in the learner's parameters, and metrics to log."""
