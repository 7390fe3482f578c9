"""Samplers: one loop that fills gaps, by denoising under an unmasking policy or causally, and the policies."""

from textdiff.samplers.categorical import categorical
from textdiff.samplers.constrained import satisfiable
from textdiff.samplers.denoise import path_log_prob, sample, steered
from textdiff.samplers.dependence import Dependence, calibrate
from textdiff.samplers.lengths import length_log_probs
from textdiff.samplers.open_gaps import null_length_log_probs
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
from textdiff.samplers.random_streams import Randomness, Streams, row_seeds, seed_generator
from textdiff.samplers.tempering import NEUTRAL, Tempering
from textdiff.samplers.trajectory import GivenTokens, Progress, Steer, Trajectory, Watch

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
    "GivenTokens",
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
    "Streams",
    "Strided",
    "Tempering",
    "Threshold",
    "TopProbability",
    "Trajectory",
    "UnmaskingPolicy",
    "Watch",
    "by_name",
    "calibrate",
    "categorical",
    "length_log_probs",
    "null_length_log_probs",
    "path_log_prob",
    "policy_label",
    "policy_name",
    "registered_name",
    "reveal_times",
    "row_seeds",
    "sample",
    "satisfiable",
    "seed_generator",
    "steered",
]
