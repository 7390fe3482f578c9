"""Semi-amortized inference: fine-tune the proposal on a single query (arXiv:1802.02550), then weigh its draws."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import torch
from torch import Generator
from transformers import PreTrainedModel

from textdiff.amortization.balance import TrajectoryBalance
from textdiff.amortization.queries import Query
from textdiff.amortization.task import Task
from textdiff.errors import UserError
from textdiff.evidence import Likelihood
from textdiff.inference import Importance
from textdiff.models import LoRA
from textdiff.posterior import Draws, Posterior, PosteriorSampler
from textdiff.priors import DiffusionPrior


@final
@dataclass(frozen=True)
class SemiAmortized(PosteriorSampler):
    """Train a low-rank adapter by a few steps of trajectory balance on one evidence; weigh its draws, and discard it.

    Whether it helped is seen from `log_evidence`, an estimate that is low on average, and not from the effective sample
    size: that of a proposal which misses the bulk of the posterior can be large, too.

    The other way to refine at test time is a chain that starts from q: `MetropolisHastings`, `ParticleGibbs`.

    Args:
        steps: training steps.
        draws: fills in each of them.
        adapter: its parameters are the ones that are trained.
        lr: learning rate of AdamW.
    """

    exactness: ClassVar[str] = "self-normalised importance sampling: exact as n grows; unbiased evidence at any n"
    steps: int = 20
    draws: int = 16
    adapter: LoRA = field(default_factory=lambda: LoRA(2))
    lr: float = 1e-3

    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """Draw `n` weighted samples; the forward passes of the training are counted, spread over them.

        Raises:
            UserError: the prior is no diffusion prior with a network, or the evidence has hard constraints.
        """
        prior = posterior.prior
        if not isinstance(prior, DiffusionPrior) or not isinstance(prior.network, PreTrainedModel):
            raise UserError(f"{prior.label} has nothing to refine: give a diffusion prior with a network")
        if posterior.canvas.dfa is not None:
            raise UserError(
                "hard constraints are respected by sampling and are not learnt: leave them out, or use Importance()"
            )
        learner = replace(prior, network=deepcopy(prior.network))
        assert isinstance(learner.network, PreTrainedModel)
        self.adapter.attach(learner.network)
        task = Task(learner, posterior.target, Likelihood(posterior.log_likelihood) if posterior.weighs else None)
        query = Query(torch.tensor([0]), posterior.canvas, None)
        learns = [parameter for parameter in learner.network.parameters() if parameter.requires_grad]
        optimizer, method = torch.optim.AdamW(learns, lr=self.lr, weight_decay=0.0), TrajectoryBalance(self.draws)
        for step in range(self.steps):
            with torch.enable_grad():
                loss, _ = method.loss(task, query, step, generator)
                optimizer.zero_grad()
                loss.backward()
            torch.nn.utils.clip_grad_norm_(learns, 1.0)
            optimizer.step()
        refined = learner.given(posterior.evidence, target=posterior.target)
        found = Importance().draw(refined, n, generator)
        each = int(found.nfe.max())
        learning = self.steps * self.draws * 4 * each  # sample, score, and the backward pass as two
        return replace(
            found,
            nfe=found.nfe + -(-learning // n),
            label=f"{self.steps} steps of learning, then {found.label}",
        )
