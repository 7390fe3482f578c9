"""Amortized inference: methods that train a prior q(z | y) to sample a posterior."""

from textdiff.amortization.balance import ReverseKL, TrajectoryBalance
from textdiff.amortization.distillation import Distillation
from textdiff.amortization.method import Method
from textdiff.amortization.module import PosteriorModule, learner_metrics
from textdiff.amortization.objectives import forward_kl, reverse_kl, trajectory_balance, vargrad
from textdiff.amortization.queries import Query, QueryDataModule, QuerySet
from textdiff.amortization.semi_amortized import SemiAmortized
from textdiff.amortization.sub_balance import SubTrajectoryBalance
from textdiff.amortization.task import Task

__all__ = [
    "Distillation",
    "Method",
    "PosteriorModule",
    "Query",
    "QueryDataModule",
    "QuerySet",
    "ReverseKL",
    "SemiAmortized",
    "SubTrajectoryBalance",
    "Task",
    "TrajectoryBalance",
    "forward_kl",
    "learner_metrics",
    "reverse_kl",
    "trajectory_balance",
    "vargrad",
]
