"""Calibration of distributions over the lengths of gaps."""

import json
import math

import pytest
import torch

from textdiff.errors import UserError
from textdiff.evaluation.lengths import length_calibration
from textdiff.evaluation.world_items import world_lengths
from textdiff.priors import DiffusionPrior
from textdiff.samplers import Strided
from textdiff.worlds import grammar, hmm

SLOTS = 4


@pytest.fixture(scope="module")
def hidden_markov():
    return hmm(states=4, symbols=6, seed=3, concentration=0.3)


def perfect(world):
    return DiffusionPrior(world, world.tokenizer, world.vocabulary, Strided(64))


def test_a_perfect_network_is_calibrated(hidden_markov):
    # Null marginals, one token per step and the exact joint give the exact posterior: no KL, uniform ranks, coverage.
    stages, world = [], hidden_markov
    items = world_lengths(world, 32, SLOTS, beside=5, seed=1)
    found = length_calibration(
        perfect(world), items, SLOTS, target=world, truth=world, draws=12, progress=stages.append
    )
    by_name = {way.name: way for way in found.ways}
    assert list(by_name) == ["null marginals", "evidence beside the gap", f"evidence, {world.label}", "truth"]
    for name in ("null marginals", f"evidence, {world.label}", "truth"):
        way = by_name[name]
        assert abs(way.kl.value) < 1e-6
        assert way.nats.value < math.log(SLOTS) + 0.01  # these lengths are hard to tell
        assert way.uniform > 0.001
        for share, covered in zip((0.5, 0.9), way.covered, strict=True):  # 32 gaps: four standard errors
            assert abs(covered.value - share) < 4 * math.sqrt(share * (1 - share) / 32)
    assert stages[-1] == "30 of 32 gaps" and len(stages) == 3
    assert str(found).startswith("| 32 gaps of 1 to 4 tokens |")
    assert json.loads(found.json())["slots"] == SLOTS


@pytest.mark.slow
def test_overconfidence_is_detected(hidden_markov):
    world = hidden_markov

    class Sharp:
        """Too certain of about two slots in three that they hold a token."""

        device, context = world.device, None

        def log_probs(self, canvas, observed, where=None, null=False):
            found = world.log_probs(canvas, observed, where, null)
            if null:
                at = world.vocabulary.null
                found[:, at] = torch.where(found[:, at] < math.log(0.7), found[:, at] - 3.0, found[:, at])
            return found.log_softmax(-1)

    sharp = DiffusionPrior(Sharp(), world.tokenizer, world.vocabulary, Strided(64))
    items = world_lengths(world, 60, SLOTS, beside=5, seed=1)
    found = length_calibration(sharp, items, SLOTS, truth=world, draws=12)
    assert found.ways[0].kl.value > 0.1
    assert found.ways[0].uniform < 0.01


def test_a_length_that_is_ruled_out_costs_infinitely_many_nats(hidden_markov):
    world = hidden_markov

    class NeverShort:
        """Certain that no slot of a gap is unused: the gap has all its tokens."""

        device, context = world.device, None

        def log_probs(self, canvas, observed, where=None, null=False):
            found = world.log_probs(canvas, observed, where, null)
            if null:
                found[:, world.vocabulary.null] = -math.inf
            return found.log_softmax(-1)

    prior = DiffusionPrior(NeverShort(), world.tokenizer, world.vocabulary, Strided(64))
    short, long = (
        [item for item in world_lengths(world, 12, 2, beside=5, seed=1) if item.canvas.slots.sum() == size][:1]
        for size in (1, 2)
    )
    for items, nats in ((long, "0.000 [0.000, 0.000]"), (short, "inf")):
        found = length_calibration(prior, items, 2, truth=world, draws=12)
        row = str(found).splitlines()[2].strip("| ").split(" | ")
        assert found.ways[0].kl.value == math.inf
        assert (row[1], row[-1]) == (nats, "inf")


def test_mistakes(hidden_markov):
    with pytest.raises(UserError, match="has a distribution of lengths"):
        world_lengths(grammar(), 2, 4)
    with pytest.raises(UserError, match="nothing to calibrate"):
        length_calibration(perfect(hidden_markov), [], 4)
