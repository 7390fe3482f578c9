"""Parallel iterative denoising: one loop, and the unmasking policies that steer it."""

from __future__ import annotations

from textdiff.errors import UserError
from textdiff.samplers.adaptive import EntropyBounded, Threshold
from textdiff.samplers.blocks import Blocks
from textdiff.samplers.budget import ErrorBudget
from textdiff.samplers.confidence import Entropy, Margin, SampledConfidence, TopProbability
from textdiff.samplers.constrained import satisfiable
from textdiff.samplers.denoise import (
    Progress,
    Steer,
    Trajectory,
    Watch,
    null_length_law,
    path_log_prob,
    sample,
    steered,
)
from textdiff.samplers.dependence import Dependence, calibrate
from textdiff.samplers.draw import NEUTRAL, Randomness, Tempering, draw, row_seeds
from textdiff.samplers.guidance import Guided
from textdiff.samplers.lengths import length_log_probs
from textdiff.samplers.ordered import Dilated, LeftToRight, RandomOrder, Strided
from textdiff.samplers.planning import PathPlanning
from textdiff.samplers.policy import LogProbKind, Paced, State, UnmaskingPolicy
from textdiff.samplers.remasking import ByConfidence, Cap, Chance, Loop, Remasking, Rescale

__all__ = [
    "NEUTRAL",
    "POLICIES",
    "Blocks",
    "ByConfidence",
    "Cap",
    "Chance",
    "Dependence",
    "Dilated",
    "Entropy",
    "EntropyBounded",
    "ErrorBudget",
    "Guided",
    "LeftToRight",
    "LogProbKind",
    "Loop",
    "Margin",
    "Paced",
    "PathPlanning",
    "Progress",
    "RandomOrder",
    "Randomness",
    "Remasking",
    "Rescale",
    "SampledConfidence",
    "State",
    "Steer",
    "Strided",
    "Tempering",
    "Threshold",
    "TopProbability",
    "Trajectory",
    "UnmaskingPolicy",
    "Watch",
    "by_name",
    "calibrate",
    "draw",
    "length_log_probs",
    "null_length_law",
    "path_log_prob",
    "row_seeds",
    "sample",
    "satisfiable",
    "steered",
]

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


def by_name(name: str, steps: int | None = None) -> UnmaskingPolicy:
    """The policy of that name in `POLICIES`, with its own defaults, or with so many steps (for `blocks` in each block).

    Raises:
        UserError: no such name, less than one step, or steps for a policy that chooses for itself.
    """
    if name not in POLICIES:
        raise UserError(f"policy is {name!r}, expected one of {', '.join(POLICIES)}")
    policy = POLICIES[name]
    if steps is None:
        return policy()
    if policy is Blocks:
        return Blocks(Strided(steps))
    if not issubclass(policy, Paced):
        raise UserError(f"policy {name!r} takes no steps (they were {steps}): it chooses how many; leave them out")
    return policy(steps)
