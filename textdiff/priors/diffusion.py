"""The masked diffusion prior: a denoiser together with the policy that turns it into a law over texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.models import Transformer
from textdiff.priors.prior import Prior
from textdiff.samplers import POLICIES, Strided, Trajectory, UnmaskingPolicy, Watch, by_name, path_log_prob, sample
from textdiff.text import Canvas, Vocabulary

DEFAULT_POLICY = Strided(16)
"""On held-out text within 1 % of one token per step."""


@final
@dataclass(frozen=True, eq=False)
class DiffusionPrior(Prior):
    """Fills gaps by parallel iterative denoising; a diffusion prior *is* the law of its sampler.

    Args:
        network: a denoiser.
        tokenizer: text <-> ids.
        vocabulary: special ids and properties of tokens.
        policy: which tokens to reveal in each step.
    """

    network: Transformer
    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary
    policy: UnmaskingPolicy = DEFAULT_POLICY

    def sample(
        self,
        canvas: Canvas,
        generator: Generator,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        watch: Watch | None = None,
    ) -> Trajectory:
        """Fill each row of a canvas once, see `textdiff.samplers.sample`."""
        return sample(self.network, canvas, self.vocabulary, self.policy, generator, temperature, top_p, watch)

    def score(self, canvas: Canvas, tokens: Tensor, *, temperature: float = 1.0, top_p: float = 1.0) -> Trajectory:
        """Log-probability that `sample` fills `canvas` with `tokens`, see `textdiff.samplers.path_log_prob`."""
        return path_log_prob(self.network, canvas, self.vocabulary, self.policy, tokens, temperature, top_p)

    def with_policy(self, policy: UnmaskingPolicy | str | None = None, steps: int | None = None) -> DiffusionPrior:
        """The same denoiser under another policy, or under its own with another number of steps."""
        own = _name(self.policy)
        if isinstance(policy, UnmaskingPolicy):
            if steps is not None:
                raise UserError(f"{policy} brings its own number of steps: leave out steps, or give the policy by name")
            return replace(self, policy=policy)
        if steps is None and policy in (None, own):
            return self
        return replace(self, policy=by_name(own if policy is None else policy, steps))

    @property
    def label(self) -> str:
        """The policy in words, such as "strided, 16 steps"."""
        settings = [
            f"{value} step{'s' * (value != 1)}" if name == "steps" else f"{name} {value}"
            for name, value in vars(self.policy).items()
            if value is not None
        ]
        return ", ".join([_name(self.policy), *settings])


def _name(policy: UnmaskingPolicy) -> str:
    """The policy's name in `POLICIES`; that of its class, if it is of the user's making."""
    return next((name for name, kind in POLICIES.items() if kind is type(policy)), type(policy).__name__)
