"""Distillation and expert iteration: think long about each query, then learn to answer at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import load_file, save
from torch import Generator, Tensor

from textdiff.amortization.balance import drawn_seed
from textdiff.amortization.method import Method, Tell
from textdiff.amortization.objectives import forward_kl
from textdiff.amortization.queries import Query, QuerySet
from textdiff.amortization.task import Task
from textdiff.data.files import atomically
from textdiff.errors import UserError
from textdiff.posterior import PosteriorSampler, WeightedSamples, seeded
from textdiff.text import Canvas


@final
class Distillation(Method):
    """Fit the learner to the weighted draws of an expensive method: it minimises KL(posterior || q).

    With `rounds` of some steps this is expert iteration (arXiv:1705.08439; reweighted wake-sleep, arXiv:1406.2751): the
    learner as it stands at the beginning of a round proposes, the teacher makes its draws better, and they are learnt
    from. If the teacher starts from a better proposal each time, its effective sample size grows from round to round,
    and the fixed point is the posterior. `round_ess` is logged, a share between 0 and 1; training may stop by it.

    Args:
        teacher: draws towards the target, such as `SMC()`, `Importance()`, `ParticleGibbs()` or, of a world, `Exact()`.
        thoughts: draws of the teacher for each query.
        kept: of them are learnt from, those with the most weight in systematic resampling; None: all, with weights.
        draws: of the kept ones that a step learns from.
        round_steps: steps of a round, after which all queries are thought about anew; None: there is but one round, the
            learner as it began proposes, and nothing is ever drawn twice.
        cache: folder for the teacher's draws of a single round; a second run finds them there.

    Raises:
        UserError: a number below 1.
    """

    def __init__(
        self,
        teacher: PosteriorSampler,
        teacher_samples: int = 64,
        kept: int | None = 16,
        draws: int = 8,
        round_steps: int | None = None,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        if min(teacher_samples, draws, kept or 1, round_steps or 1) < 1:
            raise UserError("teacher_samples, kept, draws and round_steps are 1 or more")
        self.teacher, self.teacher_samples, self.kept, self.draws = teacher, teacher_samples, kept, draws
        self.round_steps, self.cache = round_steps, cache
        self.guesses: dict[int, tuple[Tensor, Tensor]] = {}

    def prepare(
        self, task: Task, queries: QuerySet, step: int, generator: Generator, tell: Tell
    ) -> Mapping[str, float]:
        due = step % self.round_steps == 0 if self.round_steps else not self.guesses
        if not due:
            return {}
        file = (
            None if self.cache is None or self.round_steps else Path(self.cache).expanduser() / self._key(task, queries)
        )
        if file is not None and file.exists():
            found = load_file(file)
            self.guesses = {n: (found[f"tokens.{n}"], found[f"weights.{n}"]) for n in range(len(queries))}
            return {"round_ess": float(found["ess"])}
        self.guesses, shares = {}, []
        network, training = task.network, task.network.training
        network.eval()
        for number in range(len(queries)):
            if number % 20 == 0:
                tell(f"thinking about query {number + 1} of {len(queries)}")
            posterior = task.posterior(queries[number].canvas.to(task.learner.device))
            thought = posterior.sample(self.teacher_samples, self.teacher, generator=seeded(drawn_seed(generator)))
            shares.append(thought.ess / len(thought))
            self.guesses[number] = self._kept(thought, queries[number].canvas, generator)
        network.train(training)
        ess = sum(shares) / len(shares)
        if file is not None:
            named = {
                f"{name}.{n}": x
                for n, pair in self.guesses.items()
                for name, x in zip(("tokens", "weights"), pair, strict=True)
            }
            with atomically(file) as out:
                out.write(save(named | {"ess": torch.tensor(ess, dtype=torch.float64)}))
        return {"round_ess": ess}

    def _kept(self, thought: WeightedSamples, canvas: Canvas, generator: Generator) -> tuple[Tensor, Tensor]:
        """Fills `[kept, slots]` and their log-weights."""
        if self.kept is not None and self.kept < len(thought) and thought.alive:
            thought = thought.resample(self.kept, generator=generator)
        return thought.tokens[:, canvas.slots[0]].contiguous(), thought.log_weights.contiguous()

    def _key(self, task: Task, queries: QuerySet) -> str:
        """Name of the file for what was thought about these queries, by this teacher, from this learner."""
        digest = hashlib.sha256(
            repr((self.teacher, self.teacher_samples, self.kept, task.target.label, task.wanted)).encode()
        )
        for canvas, _ in queries.items:
            digest.update(canvas.tokens.numpy().tobytes())
        for parameter in task.network.state_dict().values():
            digest.update(parameter.detach().float().cpu().numpy().tobytes())
        return f"{digest.hexdigest()[:16]}.safetensors"

    def loss(self, task: Task, query: Query, step: int, generator: Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        tokens, weights = [], []
        for row, number in enumerate(query.number.tolist()):
            fills, log_weights = self.guesses[number]
            pick = torch.randperm(len(fills), generator=generator)[: self.draws]
            text = query.canvas.tokens[row].repeat(len(pick), 1)
            text[:, query.canvas.slots[row]] = fills[pick].to(text.device)
            tokens.append(text)
            weights.append(log_weights[pick].to(text.device))
        canvas = query.canvas.repeat(len(tokens[0]))
        log_q = task.log_q(canvas, torch.cat(tokens), drawn_seed(generator))
        return forward_kl(log_q.view(len(query), -1), torch.stack(weights)), {}

    def get_extra_state(self) -> dict[str, Any]:
        """What was thought so far, for a checkpoint."""
        return {"guesses": self.guesses}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Remember it."""
        self.guesses = state["guesses"]
