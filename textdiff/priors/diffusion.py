"""The masked diffusion prior: a denoiser and an unmasking policy, whose sampler defines a distribution over texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.denoisers import DenoisingNetwork, Guided, ProductOfExperts
from textdiff.errors import UserError
from textdiff.files.fields import Field, check_fields, instance
from textdiff.posterior.capabilities import CausalJoint
from textdiff.posterior.prior import NETWORK_FIELDS, Prior
from textdiff.samplers import (
    NEUTRAL,
    POLICIES,
    Dependence,
    ErrorBudget,
    GivenTokens,
    LeftToRight,
    LogProbKind,
    Randomness,
    Steer,
    Strided,
    Tempering,
    Trajectory,
    UnmaskingPolicy,
    Watch,
    by_name,
    null_length_log_probs,
    path_log_prob,
    policy_label,
    policy_name,
    sample,
    steered,
)
from textdiff.text import Canvas, Vocabulary

DEFAULT_POLICY = Strided(16)
"""On held-out text within 1 % of one token per step."""


POLICY = instance((UnmaskingPolicy, str), f"a policy, or one of {', '.join(POLICIES)}").optional()
_FIELDS = {
    **NETWORK_FIELDS,
    "network": Field(
        lambda value: callable(getattr(value, "log_probs", None)) and hasattr(value, "context"),
        "expected a denoiser, such as a Transformer",
    ),
    "policy": instance(UnmaskingPolicy, "a policy, such as Strided(8)"),
    "dependence": instance(Dependence, "what calibrate() measures").optional(),
}


@final
@dataclass(frozen=True, eq=False)
class DiffusionPrior(Prior):
    """Fills gaps by parallel iterative denoising; the prior is the distribution that its sampler draws from.

    Args:
        network: a denoiser; an exact world is one, too: a perfect network.
        tokenizer: text <-> ids.
        vocabulary: special ids and properties of tokens.
        policy: which tokens to reveal in each step.
        dependence: calibrated dependence between masked positions, for error budgets; None: not measured.
    """

    network: DenoisingNetwork
    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary
    policy: UnmaskingPolicy = DEFAULT_POLICY
    dependence: Dependence | None = None

    def __post_init__(self) -> None:
        check_fields(vars(self), _FIELDS)

    def sample(
        self,
        canvas: Canvas,
        generator: Randomness,
        *,
        tempering: Tempering = NEUTRAL,
        watch: Watch | None = None,
    ) -> Trajectory:
        """Fill each row of a canvas once, see `textdiff.samplers.sample`."""
        return sample(self.network, canvas, self.vocabulary, self.policy, generator, tempering=tempering, watch=watch)

    def steered(
        self,
        canvas: Canvas,
        generator: Generator,
        steer: Steer,
        given_tokens: GivenTokens | None = None,
    ) -> Trajectory:
        """`sample` as a particle system, see `textdiff.samplers.steered`.

        Raises:
            UserError: the policy's draws have no log-probability.
        """
        if self.kind is LogProbKind.NONE:
            raise UserError(f"{self.label} has no log-probability: choose another policy, such as 'strided'")
        return steered(self.network, canvas, self.vocabulary, self.policy, generator, steer, given_tokens=given_tokens)

    def score(
        self,
        canvas: Canvas,
        tokens: Tensor,
        *,
        tempering: Tempering = NEUTRAL,
        generator: Generator | None = None,
    ) -> Trajectory:
        """Log-probability that `sample` fills `canvas` with `tokens`, see `textdiff.samplers.path_log_prob`."""
        return path_log_prob(
            self.network, canvas, self.vocabulary, self.policy, tokens, tempering=tempering, generator=generator
        )

    def log_density(self, canvas: Canvas, tokens: Tensor) -> tuple[Tensor, int]:
        """The exact log-probability that `sample` fills `canvas` with `tokens`."""
        if self.kind is not LogProbKind.EXACT:
            raise UserError(
                f"policy {policy_name(self.policy)!r} gives its draws no density ({self.kind}): as a target take one "
                "whose order is a function of the canvas, such as 'strided'"
            )
        scored = self.score(canvas, tokens)
        assert scored.log_q is not None
        return scored.log_q, int(scored.nfe.max())

    def log_partial(self, tokens: Tensor, masked: Tensor) -> tuple[Tensor, Tensor] | None:
        """None: the sampler gives probabilities to whole trajectories only."""
        return None

    def length_log_probs(self, canvas: Canvas, gap: int = 0) -> Tensor:
        """Log-probs of a gap's length as `sample` draws it, by `null` marginals: float64 `[batch, slots + 1]`."""
        return null_length_log_probs(self.network, canvas, self.vocabulary)[:, gap]

    def with_policy(self, policy: UnmaskingPolicy | str | None = None, steps: int | None = None) -> DiffusionPrior:
        """The same denoiser under another policy, or under its own with another number of steps."""
        POLICY.check("policy", policy)
        own = policy_name(self.policy)
        if isinstance(policy, UnmaskingPolicy):
            if steps is not None:
                raise UserError(
                    f"policy {policy_label(policy)!r} brings its own number of steps: leave them out, or give its name"
                )
            return replace(self, policy=policy)
        if steps is None and (policy is None or policy == own):
            return self
        return replace(self, policy=by_name(own if policy is None else policy, steps))

    def with_error_budget(self, nats: float) -> DiffusionPrior:
        """The same denoiser in as few steps as lose at most so many nats per gap, see `ErrorBudget`.

        Raises:
            UserError: its dependence was not calibrated, or a budget below 0.
        """
        if self.dependence is None:
            raise UserError(
                "an error budget takes a calibrated prior, and this one is not: run textdiff calibrate HELD-OUT.txt "
                "--checkpoint FOLDER, or give steps"
            )
        return replace(self, policy=ErrorBudget(nats, self.dependence))

    def with_guidance(self, weight: float) -> DiffusionPrior:
        """The same policy with a guided denoiser, which exaggerates the evidence: see `Guided`.

        Raises:
            UserError: a weight below 0.
        """
        own = self.network.denoiser if isinstance(self.network, Guided) else self.network
        return replace(self, network=Guided(own, self.vocabulary, weight), dependence=None)

    def with_expert(self, expert: CausalJoint, share: float = 0.5, tilt: float = 1.0) -> DiffusionPrior:
        """The product of experts with an autoregressive prior, filled from left to right, one token at a time.

        Fills are likelier than those of either prior alone, for the passes of a token-by-token sampler, each through
        three networks: see `ProductOfExperts`.

        Args:
            expert: its causal network says what comes next; it has the same tokens.
            share: of the expert in what comes next; 1: all of it, and the denoiser only tilts by the text after the
                gap.
            tilt: the power of what that text says; 1 is Bayes' rule, less trusts the denoiser less.

        Raises:
            UserError: another tokenizer, or no share or tilt.
        """
        instance(CausalJoint, "an autoregressive prior").check("expert", expert)
        if expert.tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise UserError("the two priors have different tokenizers: join two that were trained together")
        own = self.network.denoiser if isinstance(self.network, ProductOfExperts) else self.network
        network = ProductOfExperts(own, expert.network, self.vocabulary, share, tilt)
        return replace(self, network=network, policy=LeftToRight(), dependence=None)

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self.network.device

    @property
    def context(self) -> int | None:
        """The context of the network."""
        return self.network.context

    @property
    def kind(self) -> LogProbKind:
        """As the policy declares."""
        return self.policy.kind

    @property
    def sees_suffix(self) -> bool:
        """True: the denoiser sees all known text."""
        return True

    @property
    def label(self) -> str:
        """The policy in words, such as "strided, 16 steps"."""
        guidance = [f"guidance {self.network.weight} (heuristic)"] if isinstance(self.network, Guided) else []
        product = []
        if isinstance(self.network, ProductOfExperts):
            tilted = [f"tilt {self.network.tilt}"] * (self.network.tilt != 1)
            product = [f"joined with a causal network, share {self.network.share}", *tilted]
        return ", ".join([policy_label(self.policy), *guidance, *product])
