"""Calibration of the lengths of gaps."""

import json
import math

import pytest
import torch

from textdiff.errors import UserError
from textdiff.evaluation.audit import world_lengths
from textdiff.evaluation.lengths import length_calibration, opened_canvas
from textdiff.priors import DiffusionPrior
from textdiff.samplers import Strided
from textdiff.text import Canvas
from textdiff.worlds import grammar, hmm

SLOTS = 4


@pytest.fixture(scope="module")
def law():
    return hmm(states=4, symbols=6, seed=3, concentration=0.3)


def perfect(law):
    return DiffusionPrior(law, law.tokenizer, law.vocabulary, Strided(64))


def test_a_perfect_network_knows_all_that_can_be_known(law):
    # Null marginals, one token per step and the exact joint all give the exact law: no KL, uniform ranks, coverage.
    told = []
    items = world_lengths(law, 80, SLOTS, beside=5, seed=1)
    found = length_calibration(perfect(law), items, SLOTS, target=law, truth=law, draws=12, progress=told.append)
    by_name = {way.name: way for way in found.ways}
    assert list(by_name) == ["null marginals", "evidence beside the gap", f"evidence, {law.label}", "truth"]
    for name in ("null marginals", f"evidence, {law.label}", "truth"):
        way = by_name[name]
        assert abs(way.kl.value) < 1e-6
        assert way.nats.value < math.log(SLOTS) + 0.01  # these lengths are hard to tell
        assert way.uniform > 0.001
        for share, covered in zip((0.5, 0.9), way.covered, strict=True):  # 80 gaps: four standard errors
            assert abs(covered.value - share) < 4 * math.sqrt(share * (1 - share) / 80)
    assert len(told) == 8
    assert str(found).startswith("| 80 gaps of 1 to 4 tokens |")
    assert json.loads(found.json())["slots"] == SLOTS


def test_a_law_that_is_too_sharp_is_seen(law):
    class Sharp:
        """Of two slots in three it is surer than it may be that they hold a token."""

        device, context = law.device, None

        def log_probs(self, canvas, observed, where=None, null=False):
            found = law.log_probs(canvas, observed, where, null)
            if null:
                at = law.vocabulary.null
                found[:, at] = torch.where(found[:, at] < math.log(0.7), found[:, at] - 3.0, found[:, at])
            return found.log_softmax(-1)

    sharp = DiffusionPrior(Sharp(), law.tokenizer, law.vocabulary, Strided(64))
    items = world_lengths(law, 60, SLOTS, beside=5, seed=1)
    found = length_calibration(sharp, items, SLOTS, truth=law, draws=12)
    assert found.ways[0].kl.value > 0.1
    assert found.ways[0].uniform < 0.01


def test_gaps_are_opened_in_place():
    tokens = torch.tensor([[7, 1, 2, 9, 9, 3, 8]])
    opened = opened_canvas(Canvas.of(tokens, 9), 5)
    assert opened.tokens.tolist() == [[7, 1, 2, 9, 9, 9, 9, 9, 3, 8]]
    assert opened.gap.tolist() == [[-1, -1, -1, 0, 0, 0, 0, 0, -1, -1]]
    assert (opened.minimum.tolist(), opened.maximum.tolist()) == ([[1]], [[5]])


def test_mistakes(law):
    with pytest.raises(UserError, match="has a law of lengths"):
        world_lengths(grammar(), 2, 4)
    with pytest.raises(UserError, match="nothing to calibrate"):
        length_calibration(perfect(law), [], 4)
