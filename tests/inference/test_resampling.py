"""Resampling schemes, resampled samples, and fills that are each drawn from a weighted set."""

import math

import pytest
import torch

from tests.helpers.worlds import WORLDS, agrees, coarse, enumerated
from textdiff.errors import UserError
from textdiff.inference import (
    SMC,
    Importance,
    Resampled,
    multinomial,
    residual,
    stratified,
    systematic,
)
from textdiff.posterior import Conditioning
from textdiff.samplers import LogProbKind
from textdiff.worlds import hmm

DRAWS = 1000


@pytest.mark.parametrize("method", [Importance(), SMC(0.9)], ids=["importance", "smc"])
def test_a_resampled_fill_says_how_far_it_is_from_the_posterior(method) -> None:
    """The mean of log q - log p is E[log Z - log Z-hat], which bounds KL(q || p) and falls as particles grow."""
    world = hmm(seed=0)
    posterior = coarse(world).given("abc[gap:6]cba", target=world)
    evidence, bounds = float(world.log_evidence(posterior.canvas)), []
    for particles in (1, 4, 16):
        found = posterior.sample(300, Resampled(method, particles), generator=0)
        assert found.kind is LogProbKind.GIVEN_ORDER and found.ess == pytest.approx(300)
        bounds.append(float((found.log_q - world.score(posterior.canvas.repeat(300), found.tokens).log_q).mean()))
        if particles == 1:
            torch.testing.assert_close(
                found.log_q, posterior.prior.score(posterior.canvas.repeat(300), found.tokens).log_q
            )
    deficits = torch.tensor(
        [evidence - posterior.sample(16, method, generator=seed).log_evidence for seed in range(300)]
    )
    assert bounds[0] > bounds[1] > bounds[2] > 0
    assert bounds[2] == pytest.approx(float(deficits.mean()), abs=6 * float(deficits.std()) / math.sqrt(300))


def test_mistakes_of_resampled() -> None:
    posterior = coarse(world := WORLDS["hmm"]()).given("a[gap:2]b", target=world)
    with pytest.raises(UserError, match="does not estimate the evidence"):
        posterior.sample(2, Resampled(Conditioning()), generator=0)
    with pytest.raises(UserError, match="particles is 0"):
        posterior.sample(2, Resampled(particles=0), generator=0)


def test_resampling_keeps_the_distribution() -> None:
    world = WORLDS["hmm"]()
    posterior = coarse(world).given("a[gap:3]b", target=world)
    rows, exact, _ = enumerated(world, posterior)
    equal = posterior.sample(4000, Importance(), generator=0).resample(2000, generator=1)
    assert equal.ess == pytest.approx(2000) and equal.log_evidence is None
    agrees(equal, rows, exact)


@pytest.mark.parametrize("scheme", [multinomial, stratified, systematic, residual])
def test_resampling_schemes_are_unbiased(scheme) -> None:
    """Mean copies over 4,000 calls within 5 standard errors of n w."""
    weights = torch.tensor([0.5, 0.0, 0.3, 0.15, 0.05], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    copies = torch.stack([scheme(weights, generator).bincount(minlength=5) for _ in range(4000)]).double()
    error = copies.std(dim=0) / math.sqrt(4000)
    assert ((copies.mean(dim=0) - 5 * weights).abs() <= 5 * error + 1e-12).all()
    assert (copies.sum(dim=1) == 5).all()
