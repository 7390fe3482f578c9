"""Posteriors of small worlds: united evidence, scores of given fills, particles without weight, and mistakes."""

import math

import pytest
import torch

from tests.helpers.worlds import coarse, fine
from textdiff.errors import UserError
from textdiff.evidence import Likelihood, Observed
from textdiff.inference import (
    SMC,
    BlockGibbs,
    Exact,
    Importance,
    MetropolisHastings,
    ParticleGibbs,
    Rejection,
)
from textdiff.priors import DiffusionPrior
from textdiff.samplers import RandomOrder, SampledConfidence
from textdiff.worlds import grammar, hmm


def test_particles_that_all_lose_their_weight_are_a_result() -> None:
    world = hmm(states=3, symbols=3)
    nothing = Observed("a[gap:3]b") & Likelihood(lambda tokens: torch.full((len(tokens),), -math.inf))
    for method in (Importance(), SMC()):
        found = fine(world).given(nothing).sample(8, method, generator=0)
        assert not found.alive and found.ess == 0 and found.log_evidence == -math.inf
        assert "ess 0.0" in str(found) or str(found)
        with pytest.raises(UserError, match="nothing to resample"):
            found.resample()


def test_a_fill_is_scored_exactly_or_by_a_bound() -> None:
    world = hmm(states=3, symbols=3, seed=1, concentration=0.5)
    text = "a[gap:3]b"
    exact = world.given(text).log_prob("bca")
    assert exact.kind == "exact"
    by_policy = fine(world).given(text).log_prob("bca")
    assert by_policy.kind == "exact" and float(by_policy) == pytest.approx(float(exact))
    random = DiffusionPrior(world, world.tokenizer, world.vocabulary, RandomOrder())
    bound = random.given(text).log_prob("bca")
    assert bound.kind == "bound" and float(bound) == pytest.approx(float(exact), abs=1e-9)
    with pytest.raises(UserError, match="gap 1 takes 3"):
        world.given(text).log_prob("bc")
    with pytest.raises(UserError, match="one text for each gap"):
        world.given(text).log_prob(["bca", "a"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda world: fine(world).given("a[gap:2]b").sample(0), "n is 0"),
        (lambda world: world.given("a[gap:2]b").sample(4, SMC()), "fills a gap in steps"),
        (lambda world: fine(world).given("a[gap:2]b").sample(4, Exact()), "exact world as the target"),
        (lambda world: coarse(world).given("a[gap:2]b", target=world).sample(4, Rejection()), "give log_bound"),
        (
            lambda world: coarse(world).given("a[gap:2]b", target=world).sample(4, Rejection(log_bound=-50.0)),
            "above the bound",
        ),
        (
            lambda world: (
                DiffusionPrior(world, world.tokenizer, world.vocabulary, SampledConfidence())
                .given("a[gap:2]b", target=world)
                .sample(4, Importance())
            ),
            "no density",
        ),
        (
            lambda world: (
                DiffusionPrior(world, world.tokenizer, world.vocabulary, RandomOrder())
                .given("a[gap:2]b")
                .sample(4, MetropolisHastings())
            ),
            "function of the canvas",
        ),
        (lambda world: coarse(world).given("a[gap:2]b", target=world).sample(4, BlockGibbs()), "another target"),
        (lambda world: coarse(world).given("a[gap:2]b", target=grammar()), "different tokenizers"),
        (lambda world: fine(world).given(Likelihood(lambda t: t)), "fixes no text"),
        (
            lambda world: fine(world).given(Observed("a[gap:2]b") & Likelihood(lambda t: t)).sample(2, Importance()),
            "expected real numbers",
        ),
        (lambda world: fine(world).given(Observed("a[gap:2]b") & Observed("b[gap:2]b")), "contradict"),
        (lambda world: fine(world).given(Observed("a[gap:2]b") & Observed("a[gap:3]b")), "same length"),
        (
            lambda world: (
                fine(world).given(Observed("a[gap:2]b") & Likelihood(lambda t: torch.zeros(len(t)))).sample(2)
            ),
            "plain conditioning",
        ),
        (
            lambda world: fine(world).given("a[gap:2]b").sample(2, ParticleGibbs(particles=1)),
            "particles is 1",
        ),
    ],
)
def test_mistakes_get_one_clear_line(make, message) -> None:
    with pytest.raises(UserError, match=message) as error:
        make(hmm(states=3, symbols=3))
    assert "\n" not in str(error.value)


def test_observations_unite() -> None:
    world = hmm(states=3, symbols=3)
    both = fine(world).given(Observed("a[gap:3]b") & Observed("a[gap:1]b[gap:1]b"))
    assert int(both.canvas.slots.sum()) == 2
