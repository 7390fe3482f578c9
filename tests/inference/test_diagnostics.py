"""Bounds on the log-evidence, uniformity of ranks, and the Pareto shape of the weights."""

import math

import pytest
import torch

from textdiff.inference import (
    log_evidence_sandwich,
    pareto_k,
    rank_uniformity,
)
from textdiff.priors import DiffusionPrior
from textdiff.samplers import Strided
from textdiff.worlds import hmm


def test_the_sandwich_holds_the_log_evidence() -> None:
    world = hmm(seed=0)
    whole = world.sample(world.given("[gap:16]").canvas.repeat(20), torch.Generator().manual_seed(0)).tokens
    prior = DiffusionPrior(world, world.tokenizer, world.vocabulary, Strided(3))
    held = 0
    for i, row in enumerate(whole):
        canvas = world.given("abcd[gap:8]abcd").canvas
        tokens = row[None].clone()
        tokens[:, 5:13] = world.vocabulary.mask
        canvas = type(canvas).of(tokens, world.vocabulary.mask)
        posterior = prior.given(canvas, target=world)
        bounds = log_evidence_sandwich(posterior, row[None], proposals=16, repeats=8, generator=i)
        assert bounds.lower <= bounds.upper + 3 * (bounds.lower_error + bounds.upper_error)
        held += bounds.brackets(float(world.log_evidence(canvas)))
    assert held >= 18


def test_ranks_of_calibrated_draws_are_uniform_and_others_are_not() -> None:
    generator = torch.Generator().manual_seed(0)
    good = torch.randint(0, 20, (500,), generator=generator)
    assert rank_uniformity(good, 19) > 0.01
    assert rank_uniformity((good * 0.7).long(), 19) < 1e-6


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_pareto_k_finds_the_shape_of_the_tail(k) -> None:
    """20,000 draws of a generalised Pareto distribution with shape k: within 0.12."""
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = 1 + ((1 - u) ** -k - 1) / k
    assert pareto_k(weights.log()) == pytest.approx(k, abs=0.12)
    assert pareto_k(torch.zeros(1000)) == -math.inf
    assert math.isnan(pareto_k(torch.zeros(10)))
