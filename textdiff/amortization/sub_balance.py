"""Subtrajectory balance, the GFlowNet objective for autoregressive text (arXiv:2310.04363), written as a variance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Generator, Tensor

from textdiff.amortization.balance import drawn_seed
from textdiff.amortization.method import Method
from textdiff.amortization.objectives import floored, vargrad
from textdiff.amortization.queries import Query
from textdiff.amortization.task import Task
from textdiff.errors import UserError
from textdiff.samplers import Tempering
from textdiff.samplers.lengths import count_tokens, rank_and_size


@final
class SubTrajectoryBalance(Method):
    """Learn from every prefix of a fill as if the fill had ended there.

    The loss of a fill z with stops t sums over all i < j the squares of log R(z_1..i) + sum_i<k<=j log q(z_k) + log
    q(stop | z_1..j) - log R(z_1..j) - log q(stop | z_1..i). With g_j = log q(z_1..j, stop) - log R(z_1..j) that is
    (g_j - g_i)^2, and their sum is proportional to the variance of g over the prefixes of the fill: VarGrad, with the
    prefixes of each fill as a group. So any prior that can score fills of different lengths can learn by it.

    Args:
        draws: fills of each evidence in a step.
        prefixes: of each fill, the whole among them, that are compared; drawn anew in each step, 2 or more.
        temperature: at which the learner draws.

    Raises:
        UserError: a number out of range; in a step, gaps of a fixed length, for then no fill can end earlier.
    """

    def __init__(self, draws: int = 4, prefixes: int = 6, temperature: float = 1.0) -> None:
        super().__init__()
        if draws < 1 or prefixes < 2:
            raise UserError(f"{draws} draws with {prefixes} prefixes each: expected 1 or more, and 2 or more")
        self.draws, self.prefixes, self.tempering = draws, prefixes, Tempering(temperature)

    def loss(self, task: Task, query: Query, step: int, generator: Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        canvas, seed = query.canvas.repeat(self.draws), drawn_seed(generator)
        if (canvas.minimum[:, 0] >= canvas.maximum[:, 0]).any():
            raise UserError("subtrajectory balance needs gaps of open length: set data.shortest, or write [gap:1-16]")
        null = task.learner.vocabulary.null
        assert null is not None
        tokens = task.sample(canvas, seed, self.tempering)
        lengths = count_tokens(tokens[canvas.slots], null, canvas.gap, canvas.minimum.shape[1])[:, 0]
        least = canvas.minimum[:, 0]
        share = torch.rand(len(tokens), self.prefixes, generator=generator).to(tokens.device)
        share[:, 0] = 1.0  # the whole fill
        ends = least[:, None] + (share * (lengths - least + 1)[:, None]).long().clamp(max=(lengths - least)[:, None])
        many, rank = canvas.repeat(self.prefixes), rank_and_size(canvas.gap)[0].repeat_interleave(self.prefixes, 0)
        cut = (many.gap == 0) & (rank >= ends.flatten()[:, None])
        prefixes = tokens.repeat_interleave(self.prefixes, dim=0).masked_fill(cut, null)
        log_target = task.log_target(many, prefixes, seed).view(-1, self.prefixes)
        log_q = task.log_q(many, prefixes, seed).view(-1, self.prefixes)
        return vargrad(log_q, log_target), {"log_z": (floored(log_target) - log_q.detach()).mean()}
