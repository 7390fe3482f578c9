"""Priors: distributions over texts that are conditioned on evidence, and fill the gaps of a text in one call."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Literal, overload

from textdiff.errors import UserError
from textdiff.evidence import Evidence, Observed
from textdiff.files.fields import FLAG, Field, check_fields, instance, number
from textdiff.posterior.distribution import TextDistribution
from textdiff.posterior.posterior import COUNT, Conditioning, Posterior
from textdiff.posterior.samples import WeightedSamples, seeded
from textdiff.posterior.streaming import Draft
from textdiff.posterior.streaming import stream as drafts
from textdiff.samplers import Tempering, UnmaskingPolicy, Watch
from textdiff.text import Canvas, Template, Vocabulary


class Prior(TextDistribution):
    """A distribution over texts that can be conditioned on evidence: `given(...)` and `infill(...)`."""

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

    def given(
        self, evidence: Evidence | Template | Canvas | str, *, target: TextDistribution | None = None
    ) -> Posterior:
        """The posterior given evidence: a template, a canvas of one row, or pieces of evidence combined by `&`.

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
        check_fields({"n": n, "error_budget": error_budget, "stream": stream}, _ASKED)
        generator, tempering = seeded(seed), Tempering(temperature, top_p, top_k)
        prior = self if policy is None and steps is None else self.with_policy(policy, steps)
        if error_budget is not None:
            if prior is not self:
                raise UserError("error_budget chooses order and steps by itself: leave out policy and steps")
            prior = self.with_error_budget(error_budget)
        posterior = prior.given(text)
        if stream:
            if watch is not None:
                raise UserError("stream and watch show the same steps: give one of them")
            posterior.check_count(n)
            return drafts(posterior, n, tempering, generator)
        return posterior.sample(n, Conditioning(tempering, watch), generator=generator)


NETWORK_FIELDS = {
    "tokenizer": Field(
        lambda value: value is None or callable(getattr(value, "get_vocab", None)),
        "expected a tokenizer of transformers",
    ),
    "vocabulary": instance(Vocabulary, "a Vocabulary, such as Vocabulary.of(tokenizer)"),
}
"""What the parts of a prior with a network may be, but for the network; where no text is read it needs no tokenizer."""

_ASKED = {
    "n": COUNT,
    "error_budget": number(lambda value: value >= 0, "a number of nats, 0 or more").optional(),
    "stream": FLAG,
}
"""What some arguments of `infill` may be; the others are checked where they go."""
