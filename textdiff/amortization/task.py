"""The inference problem that is amortized: a learner, and the posterior that its samples are to follow."""

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
    """A learner q, and the unnormalised density that its fills are to follow: target(x) times the reward's likelihood.

    Args:
        learner: its sampler becomes the amortized posterior.
        target: the prior whose posterior is approximated: another one with the learner's tokenizer, such as the initial
            learner (relative trajectory balance), its autoregressive baseline, or a world. It need not be normalised.
        reward: evidence that weighs complete texts, such as `Reward` or `Likelihood`; None: the posterior given the
            tokens around the gaps alone.

    Raises:
        UserError: the two have different tokenizers, the learner has no parameters or states no log-probability, the
            learner's order is random and the target does not share it, or the reward fixes tokens or rules texts out,
            which every sampler respects without learning.
    """

    learner: NetworkPrior
    target: TextDistribution
    reward: Evidence | None = None

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
        if self.reward is not None and (self.reward.fixes or not self.reward.weighs):
            raise UserError(
                "the reward must weigh complete texts, as Reward and Likelihood do: what is fixed or ruled out is "
                "respected by every sampler and need not be learnt"
            )

    @property
    def network(self) -> PreTrainedModel:
        """The learner's network."""
        assert isinstance(self.learner.network, PreTrainedModel)
        return self.learner.network

    @property
    def shares_orders(self) -> bool:
        """Whether learner and target fill in the same random order: its probability cancels between them."""
        one, other = self.learner, self.target
        return isinstance(one, Denoises) and isinstance(other, Denoises) and one.policy == other.policy

    def sample(self, canvas: Canvas, seed: int, tempering: Tempering = NEUTRAL) -> Tensor:
        """Fills of the learner, `[rows, length]`, drawn without dropout; `seed` decides random orders, too."""
        network = self.network
        training = network.training
        network.eval()
        try:
            return self.learner.sample(canvas, seeded(seed), tempering=tempering).tokens
        finally:
            network.train(training)

    def log_q(self, canvas: Canvas, tokens: Tensor, seed: int = 0) -> Tensor:
        """Log-probability that the learner fills a canvas with complete `tokens [rows, length]`: float64 `[rows]`.

        Differentiable. Of a learner with random orders it is conditional on those of `seed`: the ones in which
        `learner.sample(canvas, seeded(seed))` draws.
        """
        log_q = self.learner.score(canvas, tokens, generator=seeded(seed)).log_q
        assert log_q is not None
        return log_q

    @torch.no_grad()
    def log_target(self, canvas: Canvas, tokens: Tensor, seed: int = 0, reward_power: float = 1.0) -> Tensor:
        """Unnormalised log-density of complete texts of a canvas: float64 `[rows]`, -inf where it is 0.

        Args:
            canvas: the rows may have different evidence.
            tokens: `[rows, length]`.
            seed: see `log_q`; a target that shares the learner's random orders is scored in the same ones.
            reward_power: the exponent of the reward's likelihood.
        """
        parts = [self._log_density(canvas.select(_range(rows)), tokens[rows], seed) for rows in self._batches(tokens)]
        log_density = torch.cat(parts)
        if self.reward is not None:
            decode = partial(decode_rows, self.learner.tokenizer, canvas)
            log_density = log_density + reward_power * self.reward.log_likelihood(tokens, decode)
        return log_density

    def _batches(self, tokens: Tensor) -> list[slice]:
        """Rows that are scored in one pass; all of them where a row's number in the batch decides its random order."""
        return [slice(0, len(tokens))] if self._random else list(chunks(*tokens.shape))

    def _log_density(self, canvas: Canvas, tokens: Tensor, seed: int) -> Tensor:
        """That of the target alone."""
        device = self.target.device
        canvas, there = canvas.to(device), tokens.to(device)
        if self._random:
            log_density = self.target.score(canvas, there, generator=seeded(seed)).log_q
            assert log_density is not None
        else:
            log_density, _ = self.target.log_density(canvas, there)
        return log_density.to(tokens.device)

    @property
    def _random(self) -> bool:
        return self.learner.kind is LogProbKind.GIVEN_ORDER

    def posterior(self, canvas: Canvas, proposal: Prior | None = None) -> Posterior:
        """The posterior given one row, for the methods of `textdiff.inference`; the learner proposes by default."""
        evidence = Observed(canvas) if self.reward is None else Observed(canvas) & self.reward
        return (self.learner if proposal is None else proposal).given(evidence, target=self.target)


def _range(rows: slice) -> Tensor:
    return torch.arange(rows.start, rows.stop)
