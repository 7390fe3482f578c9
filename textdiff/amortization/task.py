"""What is to be learnt: a posterior for every evidence of a kind, by one prior, the learner."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from textdiff.errors import UserError
from textdiff.evidence import Evidence, Observed
from textdiff.posterior import Denoises, Posterior, Prior, TextDistribution, seeded
from textdiff.posterior.posterior import chunks
from textdiff.pretrained import NetworkPrior
from textdiff.samplers import NEUTRAL, LogProbKind, Tempering
from textdiff.text import Canvas, decode_rows


@final
@dataclass(frozen=True, eq=False)
class Task:
    """A learner, and the law that its fills are to follow: target(x) times the likelihood of what is wanted.

    Args:
        learner: its sampler becomes the amortized posterior.
        target: the prior whose posterior it is: another with the learner's tokenizer, such as the learner as it began
            (relative trajectory balance), its autoregressive twin, or a world. A joint need not be normalised.
        wanted: what weighs complete texts; None: nothing, all that is known are the tokens around the gaps.

    Raises:
        UserError: the two have different tokenizers, the learner's draws no log-probability, or the target no density;
            or what is wanted fixes tokens or rules texts out, which sampling heeds by itself.
    """

    learner: NetworkPrior
    target: TextDistribution
    wanted: Evidence | None = None

    def __post_init__(self) -> None:
        if self.target.tokenizer.get_vocab() != self.learner.tokenizer.get_vocab():
            raise UserError("learner and target have different tokenizers: give two priors that were trained together")
        if not isinstance(self.learner.network, PreTrainedModel):
            raise UserError(f"{self.learner.label} has no parameters to learn: give a checkpoint as the learner")
        if self.learner.kind is LogProbKind.NONE:
            raise UserError(f"{self.learner.label} has no log-probability: choose another policy, such as 'strided'")
        if self.learner.kind is LogProbKind.GIVEN_ORDER and not self.shares_orders:
            raise UserError(
                f"{self.learner.label} draws its order at random: its target must be a diffusion prior of the same "
                "policy, or give it one whose order is a function of the canvas, such as 'strided'"
            )
        if self.wanted is not None and (self.wanted.fixes or not self.wanted.weighs):
            raise UserError(
                "what is wanted must weigh complete texts, as Reward and Likelihood do: what is fixed or ruled out "
                "is heeded by every sampler and need not be learnt"
            )

    @property
    def network(self) -> PreTrainedModel:
        """The learner's."""
        assert isinstance(self.learner.network, PreTrainedModel)
        return self.learner.network

    @property
    def shares_orders(self) -> bool:
        """Whether learner and target fill in the same random order: its probability cancels between them."""
        one, other = self.learner, self.target
        return isinstance(one, Denoises) and isinstance(other, Denoises) and one.policy == other.policy

    def draw(self, canvas: Canvas, seed: int, tempering: Tempering = NEUTRAL) -> Tensor:
        """Fills of the learner, `[rows, length]`, without dropout, in the orders that `seed` stands for."""
        network = self.network
        training = network.training
        network.eval()
        try:
            return self.learner.sample(canvas, seeded(seed), tempering=tempering).tokens
        finally:
            network.train(training)

    def log_q(self, canvas: Canvas, tokens: Tensor, seed: int = 0) -> Tensor:
        """Log-probability that the learner fills a canvas with complete `tokens [rows, length]`: float64 `[rows]`.

        Differentiable. For a random order it is given the orders that `seed` stands for: those in which
        `learner.sample(canvas, seeded(seed))` draws.
        """
        log_q = self.learner.score(canvas, tokens, generator=seeded(seed)).log_q
        assert log_q is not None
        return log_q

    @torch.no_grad()
    def log_target(self, canvas: Canvas, tokens: Tensor, seed: int = 0, heed: float = 1.0) -> Tensor:
        """Log of the target at complete texts of a canvas, unnormalised: float64 `[rows]`; -inf where it rules one out.

        Args:
            canvas: the rows may have different evidence.
            tokens: `[rows, length]`.
            seed: see `log_q`; a target that shares the learner's random orders is asked about the same ones.
            heed: the power to which the likelihood of what is wanted is taken.
        """
        worth = torch.cat(
            [self._density(canvas.select(_range(rows)), tokens[rows], seed) for rows in self._goes(tokens)]
        )
        if self.wanted is not None:
            read = partial(decode_rows, self.learner.tokenizer, canvas)
            worth = worth + heed * self.wanted.log_likelihood(tokens, read)
        return worth

    def _goes(self, tokens: Tensor) -> list[slice]:
        """Rows that are asked about at a time; all at once where their number in the batch decides their order."""
        return [slice(0, len(tokens))] if self._random else list(chunks(*tokens.shape))

    def _density(self, canvas: Canvas, tokens: Tensor, seed: int) -> Tensor:
        device = self.target.device
        canvas, there = canvas.to(device), tokens.to(device)
        if self._random:
            found = self.target.score(canvas, there, generator=seeded(seed)).log_q
            assert found is not None
        else:
            found, _ = self.target.log_density(canvas, there)
        return found.to(tokens.device)

    @property
    def _random(self) -> bool:
        return self.learner.kind is LogProbKind.GIVEN_ORDER

    def posterior(self, canvas: Canvas, proposer: Prior | None = None) -> Posterior:
        """The posterior given one row, as `textdiff.inference` sees it; proposed by the learner if by nobody else."""
        evidence = Observed(canvas) if self.wanted is None else Observed(canvas) & self.wanted
        return (self.learner if proposer is None else proposer).given(evidence, target=self.target)


def _range(rows: slice) -> Tensor:
    return torch.arange(rows.start, rows.stop)
