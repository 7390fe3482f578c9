"""Learning q(z | y): distillation, trajectory balance, the reverse KL and expert iteration, with low-rank adapters."""

from textdiff.amortization.balance import ReverseKL, TrajectoryBalance
from textdiff.amortization.distillation import Distillation
from textdiff.amortization.method import Method
from textdiff.amortization.module import PosteriorModule, measured
from textdiff.amortization.objectives import forward_kl, reverse_kl, trajectory_balance, vargrad
from textdiff.amortization.queries import Queries, Query, QuerySet
from textdiff.amortization.semi_amortized import SemiAmortized
from textdiff.amortization.sub_balance import SubTrajectoryBalance
from textdiff.amortization.task import Task

__all__ = [
    "Distillation",
    "Method",
    "PosteriorModule",
    "Queries",
    "Query",
    "QuerySet",
    "ReverseKL",
    "SemiAmortized",
    "SubTrajectoryBalance",
    "Task",
    "TrajectoryBalance",
    "forward_kl",
    "measured",
    "reverse_kl",
    "trajectory_balance",
    "vargrad",
]
