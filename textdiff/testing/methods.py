"""The law of an inference method: with a network that is exact, its weighted samples follow the exact posterior."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from textdiff.posterior import PosteriorSampler
from textdiff.priors import DiffusionPrior
from textdiff.samplers import LeftToRight, Strided
from textdiff.worlds import ProbabilisticAutomaton, table


@dataclass(frozen=True)
class MethodReport:
    """What `check_method` found.

    Attributes:
        distance: total variation between the weighted samples and the exact posterior.
        noise: the largest of 100 sets of iid draws, as many as the effective sample size.
        ess: effective sample size.
        log_evidence_error: estimated less exact log-evidence, nats; None if the method gives no estimate.
    """

    distance: float
    noise: float
    ess: float
    log_evidence_error: float | None


def check_method(
    method: PosteriorSampler, *, draws: int = 1000, seed: int = 0, factorised: bool = False, factor: float = 1.1
) -> MethodReport:
    """Check a method on a world of 27 texts of three symbols, with the gap between two fixed ones.

    Args:
        method: the method.
        draws: weighted samples to draw.
        seed: of the draws.
        factorised: let the proposal fill all slots in one step, which is wrong by the factorisation error, so that the
            weights must make up for it; by default the proposal is exact, a token at a time.
        factor: how far the samples may be from the posterior, in units of the largest of 100 sets of iid draws.

    Raises:
        AssertionError: the samples do not follow the posterior; the message has the figures.
    """
    world = _world()
    proposal = DiffusionPrior(world, world.tokenizer, world.vocabulary, Strided(1) if factorised else LeftToRight())
    posterior = proposal.given("a[gap:2]b", target=world)
    found = posterior.sample(draws, method, generator=seed)
    rows, exact = _exact(world, posterior.canvas.tokens, posterior.canvas.slots)
    matches = (found.tokens[:, None] == rows).all(dim=2).double()
    seen = found.weights @ matches
    distance = (float((seen - exact).abs().sum()) + float(1 - seen.sum())) / 2
    noise = _noise(exact, max(10, int(found.ess)))
    name = type(method).__name__
    assert distance < factor * noise + 1e-9, (
        f"{name}: weighted samples are {distance:.4f} from the exact posterior in total variation; "
        f"as many iid draws as their effective sample size of {found.ess:.0f} are within {noise:.4f}"
    )
    assert found.exactness and found.target, f"{name} does not say what its samples are samples of"
    error = None
    if found.log_evidence is not None:
        error = found.log_evidence - float(world.log_evidence(posterior.canvas))
        assert found.log_evidence_error is not None
        bound = 4 * found.log_evidence_error + 1e-6
        assert abs(error) < bound, (
            f"{name}: the log-evidence is {error:.4f} nats off, four standard errors are {bound:.4f}"
        )
    return MethodReport(distance, noise, found.ess, error)


def _world() -> ProbabilisticAutomaton:
    """All texts of four symbols out of three, with weights that make neighbours depend on each other."""
    texts = ["".join(symbols) for symbols in itertools.product("abc", repeat=4)]
    weights = torch.randn(len(texts), generator=Generator().manual_seed(1), dtype=torch.float64).exp()
    return table(dict(zip(texts, weights.tolist(), strict=True)))


def _exact(world: ProbabilisticAutomaton, tokens: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
    """All fills that have a probability, and their exact posterior probabilities."""
    ids = (~world.vocabulary.forbidden).nonzero()[:, 0]
    choices = torch.cartesian_prod(*[ids] * int(slots.sum()))
    rows = tokens.repeat(len(choices), 1)
    rows[:, slots[0]] = choices
    mass = world.log_prob(rows)
    kept = mass > -math.inf
    return rows[kept], mass[kept].softmax(0)


def _noise(probs: Tensor, draws: int) -> float:
    """The largest total variation of 100 sets of iid draws to `probs [outcomes]`."""
    generator = Generator().manual_seed(0)
    sets = torch.multinomial(probs, 100 * draws, replacement=True, generator=generator).view(100, draws)
    counts = torch.zeros(100, len(probs), dtype=torch.float64).scatter_add(1, sets, torch.ones_like(sets).double())
    return float((counts / draws - probs).abs().sum(dim=1).max() / 2)
