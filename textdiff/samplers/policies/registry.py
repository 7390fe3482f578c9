"""Unmasking policies by name: the only place where a policy and its name meet."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator

from textdiff.errors import UserError
from textdiff.samplers.policies.adaptive import EntropyBounded, Threshold
from textdiff.samplers.policies.blocks import Blocks
from textdiff.samplers.policies.confidence import Entropy, Margin, SampledConfidence, TopProbability
from textdiff.samplers.policies.error_budget import ErrorBudget
from textdiff.samplers.policies.ordered import Dilated, LeftToRight, RandomOrder, Strided
from textdiff.samplers.policies.path_planning import PathPlanning
from textdiff.samplers.policies.policy import Paced, UnmaskingPolicy
from textdiff.samplers.policies.remasking import Chance, Loop, Remasking

POLICIES: dict[str, type[UnmaskingPolicy]] = {
    "strided": Strided,
    "dilated": Dilated,
    "left-to-right": LeftToRight,
    "random": RandomOrder,
    "entropy": Entropy,
    "margin": Margin,
    "top-probability": TopProbability,
    "entropy-bounded": EntropyBounded,
    "threshold": Threshold,
    "blocks": Blocks,
    "sampled-confidence": SampledConfidence,
    "remasking": Remasking,
    "path-planning": PathPlanning,
}
"""Policies that `by_name` can make. `ErrorBudget` is not among them: it needs a calibrated prior."""


def by_name(name: str, steps: int | None = None) -> UnmaskingPolicy:
    """The policy of a name in `POLICIES`, with its default settings or a number of steps (`blocks`: in each block).

    `left-to-right` takes a step for each token, also if steps are given: they cost it nothing that was asked for.

    Raises:
        UserError: no such name, less than one step, or steps for a policy that chooses for itself.
    """
    if not isinstance(name, str) or name not in POLICIES:
        raise UserError(f"policy is {reprlib.repr(name)}, expected one of {', '.join(POLICIES)}")
    policy = POLICIES[name]
    if steps is None:
        return policy()
    if policy is LeftToRight:
        Strided(steps)  # checks the number; a token per step is what it takes, whatever the limit
        return LeftToRight()
    if policy is Blocks:
        return Blocks(Strided(steps))
    if not issubclass(policy, Paced):
        raise UserError(f"policy {name!r} takes no steps (they were {steps}): it chooses how many; leave them out")
    return policy(steps)


def registered_name(policy: UnmaskingPolicy) -> str | None:
    """The name in `POLICIES` of a policy's class; None if it is not among them."""
    return next((name for name, kind in POLICIES.items() if kind is type(policy)), None)


def policy_name(policy: UnmaskingPolicy) -> str:
    """The name of a policy: that in `POLICIES`, "error-budget", or the class name of a policy of the user's own."""
    if isinstance(policy, ErrorBudget):
        return "error-budget"
    return registered_name(policy) or type(policy).__name__


def policy_label(policy: UnmaskingPolicy) -> str:
    """A policy's name and settings in words, such as "strided, 16 steps"."""
    return ", ".join([policy_name(policy), *_settings(policy)])


def _settings(thing: UnmaskingPolicy | Chance | Loop) -> Iterator[str]:
    """The settings of a policy or of a part of one, in words; those of its parts follow their names."""
    for name, value in vars(thing).items():
        if isinstance(value, UnmaskingPolicy):
            yield from (policy_name(value), *_settings(value))
        elif isinstance(value, Chance | Loop):
            kind = re.sub(r"(?<!^)(?=[A-Z])", " ", type(value).__name__).lower()
            yield from (kind, *_settings(value))
        elif name == "steps" and value is not None:
            yield f"{value} step{'s' * (value != 1)}"
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{name} {value}"
