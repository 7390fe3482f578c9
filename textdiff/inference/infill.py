"""Infilling with all its options in one call: what the command line, a server and Python users share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

from textdiff.errors import UserError
from textdiff.evidence import Evidence, Observed
from textdiff.files.fields import NOT_NEGATIVE, TEXT, check_fields, instance, whole
from textdiff.inference.importance import Importance
from textdiff.inference.resampled import Resampled
from textdiff.posterior import (
    CausalJoint,
    Denoises,
    ExactJoint,
    Prior,
    SupportsExpert,
    SupportsGuidance,
    WeightedSamples,
)
from textdiff.posterior.samples import SEED
from textdiff.samplers import NEUTRAL, Tempering, UnmaskingPolicy, Watch, by_name, registered_name
from textdiff.text import Template


@final
@dataclass(frozen=True)
class InfillOptions:
    """What to fill, and how; `infill` carries it out with priors that are loaded.

    Args:
        text: a template with gaps, see `Prior.infill`.
        n: number of fills, drawn independently.
        seed: of the random numbers; None: drawn from the system.
        policy: which tokens to reveal in each step, by object or name; None: the prior's own.
        steps: most denoising steps; None: as the policy is.
        error_budget: in place of policy and steps, nats that a gap may lose by drawing several tokens in one step.
        guidance: weight of a heuristic that follows the evidence more closely than the posterior does, see `Guided`.
        temperature, top_p, top_k: sharpen each draw, see `Tempering`.
        particles: each fill is one of so many draws, by weight towards a target, see `Resampled`; None: it is the draw.
        constraint: hard constraints that every fill satisfies, such as `Contains("dog") & Excludes("cat")`.
    """

    text: str
    n: int = 1
    seed: int | None = None
    policy: UnmaskingPolicy | str | None = None
    steps: int | None = None
    error_budget: float | None = None
    guidance: float | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    particles: int | None = None
    constraint: Evidence | None = None

    def __post_init__(self) -> None:
        """Check that each option is one.

        Raises:
            UserError: one is not; what options exclude each other is for `check`.
        """
        check_fields(vars(self), _FIELDS)

    @cached_property
    def template(self) -> Template:
        """The parsed text.

        Raises:
            UserError: no gap, a malformed marker, an empty text.
        """
        return Template.parse(self.text)

    @property
    def tempering(self) -> Tempering:
        """Temperature, top-p and top-k.

        Raises:
            UserError: one of them is out of range.
        """
        return Tempering(self.temperature, self.top_p, self.top_k)

    @property
    def evidence(self) -> Evidence:
        """The text, with the constraint if there is one."""
        observed = Observed(self.template)
        return observed if self.constraint is None else observed & self.constraint

    @property
    def slots(self) -> int:
        """Slots of all draws, each gap at its maximum: the total of a progress bar over `watch`."""
        return self.n * (self.particles or 1) * sum(gap.maximum for gap in self.template.gaps)

    def check(self, *, expert: bool = False, target: bool = False, spell: Callable[[str], str] = str) -> None:
        """Find mistakes that show before a model is loaded.

        Args:
            expert: whether there will be an expert, see `infill`.
            target: whether there will be a target other than the prior.
            spell: how the user writes the name of an option; the command line gives "--error-budget" for
                "error_budget".

        Raises:
            UserError: an option out of range, or options that exclude each other.
        """
        _ = self.template
        if isinstance(self.policy, str):
            by_name(self.policy, self.steps)
        policy, steps, budget, guidance = (spell(name) for name in ("policy", "steps", "error_budget", "guidance"))
        if self.error_budget is not None and (self.policy is not None or self.steps is not None):
            raise UserError(f"{budget} chooses order and steps by itself: leave out {policy} and {steps}")
        others = (self.policy, self.steps, self.error_budget, self.guidance)
        if expert and any(option is not None for option in others):
            raise UserError(
                f"{spell('expert')} fills from left to right: leave out {policy}, {steps}, {budget} and {guidance}"
            )
        if self.error_budget is not None and self.guidance is not None:
            raise UserError(f"{budget} is calibrated for fills without {guidance}: leave out one of them")
        tempering = self.tempering
        if self.particles is None and target:
            raise UserError(f"{spell('target')} weighs the draws of {spell('particles')}: give both")
        if self.particles is not None and (
            tempering.temperature == 0 or replace(tempering, temperature=1.0) != NEUTRAL
        ):
            raise UserError(
                f"{spell('particles')} weighs draws, and weights cannot make up for tokens never drawn: leave out "
                f"{spell('top_p')}, {spell('top_k')} and {spell('temperature')} 0"
            )

    def configured(self, prior: Prior, expert: CausalJoint | None = None) -> Prior:
        """A prior under these options: its policy, steps, error budget and guidance, or with an expert.

        Raises:
            UserError: the prior has no such choice.
        """
        if self.policy is not None or self.steps is not None:
            prior = prior.with_policy(self.policy, self.steps)
        if expert is not None:
            if not isinstance(prior, SupportsExpert):
                raise UserError(f"the prior is {prior.label}: an expert is for a diffusion prior")
            prior = prior.with_expert(expert)
        if self.guidance is not None:
            if not isinstance(prior, SupportsGuidance):
                raise UserError(f"the prior is {prior.label}: guidance is for a diffusion prior")
            prior = prior.with_guidance(self.guidance)
        if self.error_budget is not None:
            prior = prior.with_error_budget(self.error_budget)
        return prior

    def for_baseline(self) -> InfillOptions:
        """The same request to another prior, which keeps its own policy: to compare with."""
        return replace(self, policy=None, steps=None, error_budget=None, guidance=None)


_FIELDS = {
    "text": TEXT,
    "n": whole(1),
    **dict.fromkeys(("steps", "particles"), whole(1).optional()),
    "seed": SEED.optional(),
    "policy": instance((UnmaskingPolicy, str), "a policy or the name of one").optional(),
    **dict.fromkeys(("error_budget", "guidance"), NOT_NEGATIVE.optional()),
    "constraint": instance(Evidence, "evidence, such as Contains('dog')").optional(),
}
"""What the options may be, but for those of `Tempering`."""


@final
@dataclass(frozen=True, eq=False)
class Infilled:
    """Fills, and what it takes to show them.

    Attributes:
        options: what was asked for.
        prior: the prior as configured by the options.
        target: what weighed the draws, if there were particles.
        samples: the fills.
    """

    options: InfillOptions
    prior: Prior
    target: Prior | None
    samples: WeightedSamples

    @property
    def policy(self) -> str:
        """Name of the unmasking policy; for one that has no name, the label of the prior."""
        if not isinstance(self.prior, Denoises):
            return "left-to-right"
        return registered_name(self.prior.policy) or self.prior.label

    @property
    def sees_suffix(self) -> bool:
        """Whether the text after a gap had a say: the prior sees it, or the target weighed the draws by it."""
        return self.prior.sees_suffix or self.options.particles is not None


def infill(
    prior: Prior,
    options: InfillOptions,
    *,
    expert: CausalJoint | None = None,
    target: Prior | None = None,
    watch: Watch | None = None,
) -> Infilled:
    """Fill the gaps of a text with all options of `textdiff infill`.

    ```python
    options = td.InfillOptions("Lily lost her ball. [gap] She was happy.", n=4, seed=0, particles=16)
    found = td.infill(td.load("stories"), options, target=td.load("stories-ar"))
    print(found.samples)
    ```

    Args:
        prior: draws the fills.
        options: what to fill, and how.
        expert: an autoregressive prior that forms a product of experts with `prior`, see `DiffusionPrior.with_expert`.
        target: weighs the draws of `options.particles`; None: the prior itself, which then needs an exact joint.
        watch: called after each step with the canvas `[draws, length]` and the slots it revealed, all draws in one
            batch; there are `n`, or `n * particles`.

    Raises:
        UserError: options that exclude each other or do not fit the prior, or anything that `Prior.infill` refuses.
    """
    instance(Prior, "a prior, such as load() gives").check("prior", prior)
    instance(InfillOptions, "InfillOptions").check("options", options)
    options.check(expert=expert is not None, target=target is not None)
    prior = options.configured(prior, expert)
    if options.particles is None:
        tempering = options.tempering
        samples = prior.infill(
            options.evidence,
            options.n,
            seed=options.seed,
            temperature=tempering.temperature,
            top_p=tempering.top_p,
            top_k=tempering.top_k,
            watch=watch,
        )
        return Infilled(options, prior, None, samples)
    if target is None:
        if not isinstance(prior, ExactJoint):
            raise UserError(
                f"particles are weighed by an exact joint, and {prior.label} has none: give target=, such as an "
                "autoregressive prior"
            )
        target = prior
    method = Resampled(Importance(options.temperature, watch), options.particles)
    samples = prior.given(options.evidence, target=target).sample(options.n, method, generator=options.seed)
    return Infilled(options, prior, target, samples)
