"""Unmasking policies, which decide the slots to fill next: one family a file."""

from textdiff.samplers.policies.adaptive import EntropyBounded, Threshold
from textdiff.samplers.policies.blocks import Blocks
from textdiff.samplers.policies.confidence import Entropy, Margin, SampledConfidence, TopProbability
from textdiff.samplers.policies.error_budget import ErrorBudget
from textdiff.samplers.policies.ordered import Dilated, LeftToRight, RandomOrder, Strided
from textdiff.samplers.policies.path_planning import PathPlanning
from textdiff.samplers.policies.policy import LogProbKind, Paced, State, UnmaskingPolicy
from textdiff.samplers.policies.registry import POLICIES, by_name, policy_label, policy_name, registered_name
from textdiff.samplers.policies.remasking import ByConfidence, Cap, Chance, Loop, Remasking, Rescale
from textdiff.samplers.policies.reveal_times import reveal_times

__all__ = [
    "POLICIES",
    "Blocks",
    "ByConfidence",
    "Cap",
    "Chance",
    "Dilated",
    "Entropy",
    "EntropyBounded",
    "ErrorBudget",
    "LeftToRight",
    "LogProbKind",
    "Loop",
    "Margin",
    "Paced",
    "PathPlanning",
    "RandomOrder",
    "Remasking",
    "Rescale",
    "SampledConfidence",
    "State",
    "Strided",
    "Threshold",
    "TopProbability",
    "UnmaskingPolicy",
    "by_name",
    "policy_label",
    "policy_name",
    "registered_name",
    "reveal_times",
]
