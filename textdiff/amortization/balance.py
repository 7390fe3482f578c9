"""Trajectory balance and the reverse KL: learn from the learner's own samples, scored by the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import torch
from torch import Generator, Tensor

from textdiff.amortization.method import Method
from textdiff.amortization.objectives import REACH, floored, reverse_kl, trajectory_balance, vargrad
from textdiff.amortization.queries import Query
from textdiff.amortization.task import Task
from textdiff.errors import UserError
from textdiff.posterior import seeded
from textdiff.samplers import Tempering


@final
class TrajectoryBalance(Method):
    """Make log q - log target the same for all fills of an evidence (arXiv:2201.13259; relative: arXiv:2405.20971).

    If the target is the initial learner times a reward, this is relative trajectory balance; if it is a joint
    distribution, such as that of an autoregressive model, trajectory balance. The fills may come from any distribution,
    for no gradient flows through the sampling.

    Args:
        draws: fills of each evidence in a step, 2 or more.
        normaliser: "vargrad" needs no log Z: the fills of an evidence are compared with each other. "learned" keeps a
            running log Z for each evidence in a table, which converges slowly.
        temperature: at which the learner draws; above 1 it explores.
        replayed: how many of the draws are earlier fills of the same evidence, once there are any.
        from_target: how many of the draws are the target's own, given the tokens around the gap (off-policy).
        ramp: steps over which the exponent of the reward rises linearly from `start` to 1; 0: it is 1 from the start.
        start: the exponent of the reward at step 0 of the ramp.
        kept: fills of an evidence that are kept for `replayed`.
        reach: threshold of the Huber loss in nats. Where the tails of log q - log target are heavy, as towards another
            model of text, 5 learns where 20 is lost in noise.
        z_lr: step length of a learnt log Z, as a share of the residual.

    Raises:
        UserError: fewer than 2 draws, or more replayed and from the target than there are draws.
    """

    def __init__(
        self,
        draws: int = 8,
        normaliser: Literal["vargrad", "learned"] = "vargrad",
        *,
        temperature: float = 1.0,
        replayed: int = 0,
        from_target: int = 0,
        ramp: int = 0,
        start: float = 0.1,
        kept: int = 32,
        reach: float = REACH,
        z_lr: float = 0.1,
    ) -> None:
        super().__init__()
        if draws < 2 or min(replayed, from_target) < 0 or replayed + from_target > draws:
            raise UserError(
                f"draws is {draws}, of which {replayed} replayed and {from_target} from the target: "
                "expected 2 or more, and these two at most as many together"
            )
        self.draws, self.normaliser, self.tempering = draws, normaliser, Tempering(temperature)
        self.replayed, self.from_target = replayed, from_target
        self.ramp, self.start, self.kept, self.reach, self.z_lr = ramp, start, kept, reach, z_lr
        self.memory: dict[int, Tensor] = {}
        self.log_z: dict[int, float] = {}

    def loss(self, task: Task, query: Query, step: int, generator: Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        seed, canvas = drawn_seed(generator), query.canvas.repeat(self.draws)
        tokens = self._fills(task, query, seed, generator)
        reward_power = 1.0 if step >= self.ramp else self.start + (1 - self.start) * step / self.ramp
        log_target = task.log_target(canvas, tokens, seed, reward_power).view(-1, self.draws)
        log_q = task.log_q(canvas, tokens, seed).view(-1, self.draws)
        gap = (floored(log_target) - log_q).detach()
        metrics = {"log_z": gap.mean()}
        if self.normaliser == "vargrad":
            return vargrad(log_q, log_target, self.reach), metrics
        log_z = self._log_z(query, gap)
        return trajectory_balance(log_q, log_target, log_z, self.reach), metrics

    def _log_z(self, query: Query, gap: Tensor) -> Tensor:
        """The running log-normalisers `[evidence]`, which are then moved towards the estimate from these fills."""
        numbers, means = query.number.tolist(), gap.mean(dim=1).tolist()
        before = [self.log_z.get(number, mean) for number, mean in zip(numbers, means, strict=True)]
        moved = (old + self.z_lr * (mean - old) for old, mean in zip(before, means, strict=True))
        self.log_z.update(zip(numbers, moved, strict=True))
        return gap.new_tensor(before)

    def _fills(self, task: Task, query: Query, seed: int, generator: Generator) -> Tensor:
        """Fills to learn from, `[rows x draws, length]`, those of a query next to each other."""
        rows, k = len(query), self.draws
        tokens = task.sample(query.canvas.repeat(k), seed, self.tempering)
        fills = tokens.view(rows, k, -1)
        if self.from_target:
            there = query.canvas.repeat(self.from_target).to(task.target.device)
            drawn = task.target.sample(there, seeded(drawn_seed(generator))).tokens
            fills[:, : self.from_target] = drawn.view(rows, self.from_target, -1).to(fills.device)
        if self.replayed:
            self._replay(fills, query, generator)
        return fills.view(rows * k, -1)

    def _replay(self, fills: Tensor, query: Query, generator: Generator) -> None:
        """Replace the last fills of each query by earlier ones, and add the new ones to the memory."""
        for row, number in enumerate(query.number.tolist()):
            slots = query.canvas.slots[row]
            old = self.memory.get(number)
            fresh = fills[row][:, slots].cpu()
            if old is not None:
                pick = torch.randint(len(old), (self.replayed,), generator=generator)
                fills[row, -self.replayed :, slots] = old[pick].to(fills.device)
                fresh = torch.cat((fresh[: -self.replayed], old))
            self.memory[number] = fresh[: self.kept]

    def get_extra_state(self) -> dict[str, Any]:
        """The replay memory and the log-normalisers, for a checkpoint."""
        return {"memory": self.memory, "log_z": self.log_z}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore those of a checkpoint."""
        self.memory, self.log_z = state["memory"], state["log_z"]


@final
class ReverseKL(Method):
    """Minimise KL(q || posterior), as in variational inference, by REINFORCE with a leave-one-out baseline.

    It learns from the learner's own draws alone, so a mode that the learner does not visit is never found.

    Args:
        draws: fills of each evidence in a step, 2 or more.

    Raises:
        UserError: fewer than 2 draws.
    """

    def __init__(self, draws: int = 8) -> None:
        super().__init__()
        if draws < 2:
            raise UserError(f"draws is {draws}: a leave-one-out baseline needs 2 or more")
        self.draws = draws

    def loss(self, task: Task, query: Query, step: int, generator: Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        seed, canvas = drawn_seed(generator), query.canvas.repeat(self.draws)
        tokens = task.sample(canvas, seed)
        log_target = task.log_target(canvas, tokens, seed).view(-1, self.draws)
        log_q = task.log_q(canvas, tokens, seed).view(-1, self.draws)
        return reverse_kl(log_q, log_target), {"log_z": (floored(log_target) - log_q.detach()).mean()}


def drawn_seed(generator: Generator) -> int:
    """A seed drawn from a generator: learner and target make equal generators of it."""
    return int(torch.randint(2**62, (), generator=generator))
