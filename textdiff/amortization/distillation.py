"""Distillation and expert iteration: fit the learner to the weighted samples of an expensive method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import Generator, Tensor

from textdiff.amortization.balance import drawn_seed
from textdiff.amortization.cache_key import cache_key
from textdiff.amortization.method import Method, Progress
from textdiff.amortization.objectives import forward_kl
from textdiff.amortization.queries import Query, QuerySet
from textdiff.amortization.task import Task
from textdiff.amortization.teacher_samples import TeacherSamples
from textdiff.errors import UserError
from textdiff.posterior import PosteriorSampler, WeightedSamples, seeded
from textdiff.text import Canvas


@final
class Distillation(Method):
    """Fit the learner to the weighted samples of an expensive method: it minimises KL(posterior || q).

    With `round_steps` this is expert iteration (arXiv:1705.08439; reweighted wake-sleep, arXiv:1406.2751): at the
    beginning of each round the current learner proposes, the teacher improves on its draws, and the learner is fitted
    to them. If the teacher starts from a better proposal each time, its effective sample size grows from round to
    round, and the fixed point is the posterior. `round_ess`, a share between 0 and 1, is logged; training may stop by
    it.

    Args:
        teacher: draws towards the target, such as `SMC()`, `Importance()`, `ParticleGibbs()` or, of a world, `Exact()`.
        teacher_samples: samples that the teacher draws for each query.
        kept: how many of them are learnt from, chosen by systematic resampling; None: all, with their weights.
        draws: how many of the kept ones a step learns from.
        round_steps: steps of a round, at whose beginning the teacher draws anew; None: a single round, in which the
            initial learner proposes and the teacher draws once.
        cache: folder for the teacher's samples of a single round. A second run finds them there if learner, target,
            reward, teacher, queries and seed are all the same.

    Raises:
        UserError: a number below 1; in `prepare`, a teacher, prior or reward that no cache key describes.
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
        if min(number for number in (teacher_samples, kept, draws, round_steps) if number is not None) < 1:
            raise UserError("teacher_samples, kept, draws and round_steps are 1 or more")
        self.teacher, self.teacher_samples, self.kept, self.draws = teacher, teacher_samples, kept, draws
        self.round_steps, self.cache = round_steps, cache
        self.fills: Mapping[int, tuple[Tensor, Tensor]] = {}

    def prepare(
        self, task: Task, queries: QuerySet, step: int, generator: Generator, progress: Progress
    ) -> Mapping[str, float]:
        due = step % self.round_steps == 0 if self.round_steps else not self.fills
        if not due:
            return {}
        path = None
        if self.cache is not None and not self.round_steps:
            path = Path(self.cache).expanduser() / self._file_name(task, queries, generator)
        if path is not None and path.exists():
            samples = TeacherSamples.read(path)
        else:
            samples = self._draw(task, queries, generator, progress)
            if path is not None:
                samples.write(path)
        self.fills = samples.fills
        return {"round_ess": samples.ess}

    def _draw(self, task: Task, queries: QuerySet, generator: Generator, progress: Progress) -> TeacherSamples:
        """Run the teacher on every query, the learner without dropout."""
        fills, shares = {}, []
        network, training = task.network, task.network.training
        network.eval()
        for number in range(len(queries)):
            if number % 20 == 0:
                progress(f"the teacher draws for query {number + 1} of {len(queries)}")
            canvas = queries[number].canvas
            posterior = task.posterior(canvas.to(task.learner.device))
            samples = posterior.sample(self.teacher_samples, self.teacher, generator=seeded(drawn_seed(generator)))
            shares.append(samples.ess / len(samples))
            fills[number] = self._kept(samples, canvas, generator)
        network.train(training)
        return TeacherSamples(fills, sum(shares) / len(shares))

    def _kept(self, samples: WeightedSamples, canvas: Canvas, generator: Generator) -> tuple[Tensor, Tensor]:
        """Fills `[kept, slots]` and their log-weights."""
        if self.kept is not None and self.kept < len(samples) and samples.alive:
            samples = samples.resample(self.kept, generator=generator)
        return samples.tokens[:, canvas.slots[0]].contiguous(), samples.log_weights.contiguous()

    def _file_name(self, task: Task, queries: QuerySet, generator: Generator) -> str:
        """Name of the file for these samples: a hash of all that they depend on, the random numbers included."""
        settings = (self.teacher, self.teacher_samples, self.kept, generator.get_state())
        canvases = [canvas for canvas, _ in queries.items]
        return f"{cache_key(task.learner, task.target, task.reward, settings, canvases)[:16]}.safetensors"

    def loss(self, task: Task, query: Query, step: int, generator: Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        tokens, weights = [], []
        for row, number in enumerate(query.number.tolist()):
            fills, log_weights = self.fills[number]
            pick = torch.randperm(len(fills), generator=generator)[: self.draws]
            text = query.canvas.tokens[row].repeat(len(pick), 1)
            text[:, query.canvas.slots[row]] = fills[pick].to(text.device)
            tokens.append(text)
            weights.append(log_weights[pick].to(text.device))
        canvas = query.canvas.repeat(len(tokens[0]))
        log_q = task.log_q(canvas, torch.cat(tokens), drawn_seed(generator))
        return forward_kl(log_q.view(len(query), -1), torch.stack(weights)), {}

    def get_extra_state(self) -> dict[str, Any]:
        """The fills to learn from, for a checkpoint."""
        return {"fills": dict(self.fills)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the fills of a checkpoint."""
        self.fills = state["fills"]
