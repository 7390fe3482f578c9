"""How far a proposal is from its target: bounds on the log-evidence from both sides, and uniformity of ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from textdiff.errors import UserError
from textdiff.files.fields import check_fields, whole
from textdiff.inference.importance import log_weights
from textdiff.posterior import Posterior, seeded


@dataclass(frozen=True)
class Sandwich:
    """Stochastic bounds on a log-evidence, in nats (Grosse, Ghahramani and Adams 2015, by importance sampling).

    Attributes:
        lower: mean of log (1/K) sum w over K proposals: at most log Z in expectation.
        lower_error: its standard error.
        upper: mean of the same with one proposal replaced by an exact posterior draw: at least log Z in expectation.
        upper_error: its standard error.
        jeffreys: E_p log w - E_q log w = KL(p || q) + KL(q || p).
        jeffreys_error: its standard error.
    """

    lower: float
    lower_error: float
    upper: float
    upper_error: float
    jeffreys: float
    jeffreys_error: float

    def brackets(self, value: float, errors: float = 3.0) -> bool:
        """Whether a value lies between the bounds, each widened by so many standard errors."""
        low, high = self.lower - errors * self.lower_error, self.upper + errors * self.upper_error
        return low <= value <= high


@torch.no_grad()
def log_evidence_sandwich(
    posterior: Posterior,
    exact: Tensor,
    proposals: int = 64,
    repeats: int = 8,
    *,
    generator: Generator | int | None = None,
) -> Sandwich:
    """Bound the log-evidence of a posterior from both sides.

    Args:
        posterior: of a target with a joint density.
        exact: exact posterior draws `[repeats, length]`, or one `[1, length]` for all: free where the text was drawn
            from the target and the evidence cut out of it.
        proposals: K, draws in each estimate.
        repeats: estimates to average.
        generator: the source of randomness, or a seed.

    Raises:
        UserError: the proposal has no density, or the counts make no sense.
    """
    check_fields({"proposals": proposals, "repeats": repeats}, dict.fromkeys(("proposals", "repeats"), whole(2)))
    posterior.check_count(proposals * repeats, "proposals x repeats")
    prior, generator = posterior.prior, seeded(generator)
    drawn = posterior.propose(proposals * repeats, generator)
    log_w, _ = log_weights(posterior, drawn)
    log_w = log_w.view(repeats, proposals)
    exact = exact.to(prior.device).expand(repeats, -1)
    log_q = prior.score(posterior.canvas.repeat(repeats), exact, generator=generator).log_q
    if log_q is None:
        raise UserError("the proposal has no density: choose a policy whose order is a function of the canvas")
    true_w = posterior.log_density(exact)[0] - log_q
    lower, upper = evidence_bounds(log_w, true_w)
    gap = true_w - log_w.mean(dim=1)

    def error(values: Tensor) -> float:
        return float(values.std()) / math.sqrt(repeats)

    return Sandwich(float(lower.mean()), error(lower), float(upper.mean()), error(upper), float(gap.mean()), error(gap))


def evidence_bounds(log_w: Tensor, true_log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Estimates of a log-evidence from below and from above, in nats, each `[...]`.

    Args:
        log_w: log-weights of K proposals, `[..., K]`.
        true_log_w: log-weight of one exact posterior draw, `[...]`; it replaces the first proposal in the upper bound.
    """
    count = math.log(log_w.shape[-1])
    swapped = torch.cat((true_log_w[..., None], log_w[..., 1:]), dim=-1)
    return log_w.logsumexp(dim=-1) - count, swapped.logsumexp(dim=-1) - count


def rank_uniformity(ranks: Tensor, draws: int, bins: int = 10) -> float:
    """p-value of the hypothesis that ranks are uniform: simulation-based calibration (arXiv:1804.06788), chi-squared.

    Args:
        ranks: `[tests]`, how many of `draws` posterior draws are below the truth, in 0 ... draws; ties are to be broken
            at random.
        draws: posterior draws in each test.
        bins: groups of ranks; `draws + 1` should be a multiple.
    """
    bins = min(bins, draws + 1)
    edges = torch.arange(draws + 1) * bins // (draws + 1)
    expected = torch.bincount(edges, minlength=bins).double() / (draws + 1) * len(ranks)
    counts = torch.bincount(edges[ranks.long()], minlength=bins).double()
    statistic = ((counts - expected).square() / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((bins - 1) / 2).double(), statistic / 2))
