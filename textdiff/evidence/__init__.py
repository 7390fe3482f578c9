"""Evidence: what is known about a text. It fixes tokens, constrains or weighs whole texts; pieces compose with `&`."""

from textdiff.evidence.constraints import Constraint, Contains, Excludes, Length, Ordered, Regex
from textdiff.evidence.evidence import (
    Both,
    Decode,
    Evidence,
    Likelihood,
    LogLikelihood,
    LookAhead,
    Observed,
    Rule,
    united,
)
from textdiff.evidence.question import Question
from textdiff.evidence.reward import Counts, Reward, RightSum

__all__ = [
    "Both",
    "Constraint",
    "Contains",
    "Counts",
    "Decode",
    "Evidence",
    "Excludes",
    "Length",
    "Likelihood",
    "LogLikelihood",
    "LookAhead",
    "Observed",
    "Ordered",
    "Question",
    "Regex",
    "Reward",
    "RightSum",
    "Rule",
    "united",
]
