"""Policies by name."""

from textdiff.errors import UserError
from textdiff.samplers.policies.adaptive import EntropyBounded, Threshold
from textdiff.samplers.policies.blocks import Blocks
from textdiff.samplers.policies.confidence import Entropy, Margin, SampledConfidence, TopProbability
from textdiff.samplers.policies.ordered import Dilated, LeftToRight, RandomOrder, Strided
from textdiff.samplers.policies.path_planning import PathPlanning
from textdiff.samplers.policies.policy import Paced, UnmaskingPolicy
from textdiff.samplers.policies.remasking import Remasking

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
