"""Blocks of a long gap: another policy fills each of them as if there were no other."""

from dataclasses import replace

import pytest
import torch

from tests.helpers.laws import DEPENDENCE, EXACT, WITHOUT_DENSITY, canvas_of, seeded
from tests.helpers.policies import RAGGED, one_gap, rounds, state_of, walk
from textdiff.errors import UserError
from textdiff.samplers import (
    Blocks,
    Cap,
    Entropy,
    ErrorBudget,
    LeftToRight,
    LogProbKind,
    RandomOrder,
    Remasking,
    SampledConfidence,
    Strided,
    Threshold,
    by_name,
    sample,
)
from textdiff.testing.tables import TableDenoiser
from textdiff.text import Vocabulary

INNER = [policy for policy in (*EXACT, RandomOrder(3), *WITHOUT_DENSITY) if not isinstance(policy, Blocks)]


def test_blocks_are_filled_from_left_to_right():
    revealed = rounds(Blocks(Strided(2), 4), one_gap(9))[:, 0]
    assert [step.nonzero()[:, 0].tolist() for step in revealed] == [[0, 2], [1, 3], [4, 6], [5, 7], [8]]


def test_all_gaps_of_a_row_are_filled_in_parallel_and_unused_slots_belong_to_no_block():
    gap = torch.tensor([[0, 0, 0, 0, 0, -1, 1, 1, 1, -1, 2]])  # the -1 after a gap may as well be its unused slots
    revealed = rounds(Blocks(LeftToRight(), 2), gap)[:, 0]
    assert [step.nonzero()[:, 0].tolist() for step in revealed] == [[s] for s in (0, 1, 6, 7, 10, 2, 3, 8, 4)]
    parallel = rounds(Blocks(Strided(1), 2), gap)[:, 0]
    assert [step.nonzero()[:, 0].tolist() for step in parallel] == [[0, 1, 6, 7, 10], [2, 3, 8], [4]]


@pytest.mark.parametrize("policy", INNER, ids=str)
def test_gaps_within_a_block_are_filled_as_without(policy):
    for plain, block in zip(walk(policy, RAGGED), walk(Blocks(policy, 10), RAGGED), strict=True):
        assert all(map(torch.equal, plain, block))


@pytest.mark.parametrize("policy", [*INNER, ErrorBudget(0.3, DEPENDENCE)], ids=str)
def test_the_policy_sees_the_current_block_alone(policy):
    """In the third block of a gap it sees what it would see of a gap with these slots alone."""
    gap, alone = one_gap(11), torch.full((1, 11), -1)
    alone[:, 8:11] = 0
    masked = torch.arange(11)[None] >= 8
    log_probs = torch.randn(3, 5, dtype=torch.float64, generator=seeded()).log_softmax(-1)
    noise = torch.rand(1, 11, dtype=torch.float64, generator=seeded(1))
    drawn, confidence = torch.zeros_like(gap), torch.full((1, 11), -0.1, dtype=torch.float64)
    whole = replace(state_of(log_probs, gap), masked=masked, when=torch.arange(11)[None].where(~masked, -1))
    parts = replace(state_of(log_probs, alone), masked=masked)
    whole, parts = (replace(x, noise=noise, drawn=drawn, confidence=confidence) for x in (whole, parts))
    assert torch.equal(Blocks(policy, 4).reveal(whole), policy.reveal(parts))
    assert torch.equal(Blocks(policy, 4).hide(whole), policy.hide(parts))


def test_steps_are_counted_within_a_block():
    # Remasking takes exactly its steps in a block of two tokens or more, and one in the last, which has one token.
    assert len(list(walk(Blocks(Remasking(6, Cap(0.3)), 4), one_gap(9)))) == 6 + 6 + 1


@pytest.mark.parametrize("policy", [Strided(2), RandomOrder(), SampledConfidence()], ids=str)
def test_what_the_policy_declares_is_passed_on(policy):
    assert Blocks(policy).kind is policy.kind and Blocks(policy).blind is policy.blind
    assert Blocks().kind is LogProbKind.EXACT


def test_with_a_blind_policy_only_revealed_slots_are_queried():
    asked, table = [], TableDenoiser(3, 4)

    class Counting:
        def log_probs(self, canvas, observed, where=None, null=False):
            asked.append(where.nonzero()[:, 1].tolist())
            return table.log_probs(canvas, observed, where, null)

    vocabulary = Vocabulary.toy(3)
    sample(Counting(), canvas_of(vocabulary, [None] * 4), vocabulary, Blocks(Strided(2), 3), seeded())
    assert asked == [[0, 2], [1], [3]]


def test_blocks_by_name():
    assert by_name("blocks") == Blocks(Strided(16), 32)
    assert by_name("blocks", 4) == Blocks(Strided(4), 32)
    assert Blocks(Threshold(0.5), 8) == Blocks(Threshold(0.5), 8) != Blocks(Threshold(0.6), 8)


@pytest.mark.parametrize("wrong", [lambda: Blocks(Entropy(), 0), lambda: Blocks(Blocks())])
def test_mistakes_get_one_line(wrong):
    with pytest.raises(UserError, match=r"block|length is 0") as error:
        wrong()
    assert "\n" not in str(error.value)
