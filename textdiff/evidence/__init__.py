"""Evidence: what is known about a text. It fixes tokens, constrains texts or weights them; pieces compose with `&`."""

from textdiff.evidence.constraints import Constraint, Contains, Excludes, Length, Ordered, Regex
from textdiff.evidence.evidence import Both, Decode, Evidence, PositionedDFA, templates
from textdiff.evidence.likelihood import Likelihood, LogLikelihood, LookAhead
from textdiff.evidence.observed import Observed
from textdiff.evidence.question import Question
from textdiff.evidence.reward import Reward
from textdiff.evidence.scores import Counts, RightSum, Score

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
    "PositionedDFA",
    "Question",
    "Regex",
    "Reward",
    "RightSum",
    "Score",
    "templates",
]
