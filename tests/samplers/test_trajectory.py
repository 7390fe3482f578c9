"""Batches of fills: concatenated, and cut into parts again."""

import pytest
import torch

from tests.helpers.laws import canvas_of, seeded
from textdiff.samplers import SampledConfidence, Strided, Trajectory, sample
from textdiff.testing.tables import TableDenoiser
from textdiff.text import Vocabulary

PLAIN = Vocabulary.toy(3)


def fields(trajectory):
    return [trajectory.tokens, trajectory.nfe, trajectory.steps, trajectory.log_q, trajectory.log_excess]


@pytest.mark.parametrize("policy", [Strided(2), SampledConfidence(2)], ids=str)
def test_parts_of_a_concatenation_are_what_was_concatenated(policy):
    canvas = canvas_of(PLAIN, [None] * 4)
    parts = [sample(TableDenoiser(3, 4), canvas.repeat(n), PLAIN, policy, seeded(n)) for n in (2, 3)]
    whole = Trajectory.cat(parts)
    assert len(whole.tokens) == 5 and whole.kind is policy.kind
    for part, rows in zip(parts, (slice(0, 2), slice(2, 5)), strict=True):
        for one, other in zip(fields(part), fields(whole.rows(rows)), strict=True):
            assert (one is None and other is None) or torch.equal(one, other)
    assert torch.equal(whole.rows(slice(1, 2), 3).tokens, parts[0].tokens[1:2, :3])
