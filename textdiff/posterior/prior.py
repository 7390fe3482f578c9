"""What every prior can do: be conditioned, fill the gaps of a text, score a given fill."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal, overload

import torch
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.evidence import Evidence, Observed
from textdiff.posterior.posterior import Conditioning, Posterior
from textdiff.posterior.samples import WeightedSamples, seeded
from textdiff.posterior.streaming import Draft
from textdiff.posterior.streaming import stream as drafts
from textdiff.samplers import NEUTRAL, LogProbKind, Randomness, Tempering, Trajectory, UnmaskingPolicy, Watch
from textdiff.text import Canvas, Template, Vocabulary


class Prior(ABC):
    """A law over texts that can be conditioned on evidence.

    Attributes:
        tokenizer: text <-> ids.
        vocabulary: special ids and properties of tokens.
    """

    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where its tensors live."""

    @property
    @abstractmethod
    def context(self) -> int | None:
        """The longest text that it reads, in tokens; None: any."""

    @property
    @abstractmethod
    def kind(self) -> LogProbKind:
        """In what sense `sample` knows the log-probability of its draws."""

    @property
    @abstractmethod
    def label(self) -> str:
        """How samples are drawn, in a few words."""

    @property
    @abstractmethod
    def tractable(self) -> bool:
        """Whether the exact joint log-probability of a text is known (`TractablePrior`)."""

    @abstractmethod
    def sample(
        self,
        canvas: Canvas,
        generator: Randomness,
        *,
        tempering: Tempering = NEUTRAL,
        watch: Watch | None = None,
    ) -> Trajectory:
        """Fill each row of a canvas once; `generator` may be a seed for each row, int64 `[batch]`."""

    @abstractmethod
    def score(
        self,
        canvas: Canvas,
        tokens: Tensor,
        *,
        tempering: Tempering = NEUTRAL,
        generator: Generator | None = None,
    ) -> Trajectory:
        """Log-probability that `sample` would have filled `canvas` with the complete `tokens [batch, length]`.

        `generator` draws the order, for samplers that draw one.
        """

    @abstractmethod
    def log_density(self, canvas: Canvas, tokens: Tensor) -> tuple[Tensor, int]:
        """The density that makes this prior a target, in nats `[batch]` float64, and the forward passes it took.

        The exact joint of the complete `tokens [batch, length]` where there is one, else the law of the sampler given
        the fixed tokens of `canvas`.

        Raises:
            UserError: there is neither.
        """

    @abstractmethod
    def log_partial(self, tokens: Tensor, masked: Tensor) -> tuple[Tensor, Tensor] | None:
        """What the joint knows of partly filled texts `[batch, length]`.

        Returns:
            The log-probability of some of the tokens, in nats `[batch]` float64, and which those are, bool
            `[batch, length]`; None: nothing is known before a text is complete.
        """

    @abstractmethod
    def with_policy(self, policy: UnmaskingPolicy | str | None = None, steps: int | None = None) -> Prior:
        """The same network under another unmasking policy, which makes it another prior.

        Args:
            policy: the policy, or its name in `textdiff.samplers.POLICIES`; None: the one that the prior has.
            steps: how many; None: as the policy is, or as a policy of that name is by itself.

        Raises:
            UserError: no such policy, or no choice of policy or steps.
        """

    def with_error_budget(self, nats: float) -> Prior:
        """The same prior in as few steps as lose at most so many nats per gap.

        Raises:
            UserError: it does not fill several tokens in a step.
        """
        raise UserError(f"{self.label} fills one token after the other: an error budget is for a diffusion prior")

    def given(self, evidence: Evidence | Template | Canvas | str, *, target: Prior | None = None) -> Posterior:
        """The posterior given evidence: a template, a canvas of one row, or pieces of evidence joined by `&`.

        Args:
            evidence: what is known.
            target: another prior with the same tokenizer, whose posterior is meant: this one then only proposes.

        Raises:
            UserError: malformed or empty evidence, a text longer than a model's context, another tokenizer.
        """
        if not isinstance(evidence, Evidence):
            evidence = Observed(evidence)
        return Posterior(self, evidence, self if target is None else target)

    @overload
    def infill(
        self,
        text: str | Evidence,
        n: int = ...,
        *,
        steps: int | None = ...,
        policy: UnmaskingPolicy | str | None = ...,
        error_budget: float | None = ...,
        seed: int | None = ...,
        temperature: float = ...,
        top_p: float = ...,
        top_k: int | None = ...,
        watch: Watch | None = ...,
        stream: Literal[False] = ...,
    ) -> WeightedSamples: ...

    @overload
    def infill(
        self,
        text: str | Evidence,
        n: int = ...,
        *,
        steps: int | None = ...,
        policy: UnmaskingPolicy | str | None = ...,
        error_budget: float | None = ...,
        seed: int | None = ...,
        temperature: float = ...,
        top_p: float = ...,
        top_k: int | None = ...,
        watch: Watch | None = ...,
        stream: Literal[True],
    ) -> Iterator[Draft | WeightedSamples]: ...

    def infill(
        self,
        text: str | Evidence,
        n: int = 1,
        *,
        steps: int | None = None,
        policy: UnmaskingPolicy | str | None = None,
        error_budget: float | None = None,
        seed: int | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int | None = None,
        watch: Watch | None = None,
        stream: bool = False,
    ) -> WeightedSamples | Iterator[Draft | WeightedSamples]:
        """Fill the gaps of a text, `n` times independently: `given(text).sample(n)` with `Conditioning`.

        Args:
            text: a template such as `"Lily lost her ball. [gap] She was happy."`; `[gap:12]` is exactly 12 tokens,
                `[gap:4-16]` between 4 and 16, `[gap]` between 1 and 32; `\\[gap]` is the word itself. Or evidence,
                such as `Observed("She ate [gap].") & Contains("pie")`: every fill satisfies its hard constraints.
            n: number of fills.
            steps: most denoising steps; fewer are faster and less faithful.
            policy: which tokens to reveal in each step, by object or name (see `textdiff.samplers.POLICIES`).
            error_budget: nats that a gap may lose by drawing several tokens in one step; in place of steps and policy.
            seed: of the random numbers; drawn from the system if None.
            temperature, top_p, top_k: sharpen each draw, see `Tempering`; the fills are then no posterior samples.
            watch: called after each step with the canvas `[n, length]` and the slots it revealed, all n in one batch.
            stream: return an iterator at once. It gives a `Draft` of all n fills after each step, computed when it is
                asked for, and at last the samples, the same as without.

        Raises:
            UserError: no gap, an empty text, a text longer than the model's context, a bad option.
        """
        if n < 1:
            raise UserError(f"n is {n}: ask for at least 1 fill")
        prior = self if policy is None and steps is None else self.with_policy(policy, steps)
        if error_budget is not None:
            if prior is not self:
                raise UserError("error_budget chooses order and steps by itself: leave out policy and steps")
            prior = self.with_error_budget(error_budget)
        posterior, tempering = prior.given(text), Tempering(temperature, top_p, top_k)
        if stream:
            if watch is not None:
                raise UserError("stream and watch show the same steps: give one of them")
            return drafts(posterior, n, tempering, seeded(seed))
        return posterior.sample(n, Conditioning(tempering, watch), generator=seeded(seed))

    def check_canvas(self, canvas: Canvas) -> None:
        """See that a canvas fits into the context.

        Raises:
            UserError: it does not.
        """
        length = canvas.tokens.shape[1]
        if self.context is not None and length > self.context:
            slots = int(canvas.slots.sum())
            raise UserError(
                f"the text takes {length} tokens, {slots} of them in gaps, and the model reads at most {self.context}: "
                "shorten the text or its gaps, e.g. [gap:1-16]"
            )


class TractablePrior(Prior):
    """A prior that knows the exact joint log-probability of a text."""

    @abstractmethod
    def log_prob(self, tokens: Tensor) -> Tensor:
        """Log-probability of complete texts `[batch, length]`, null and padding left out, in nats `[batch]` float64."""
