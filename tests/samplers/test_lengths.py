"""The distribution of the lengths of gaps, from null marginals."""

import pytest
import torch

from tests.helpers.laws import seeded
from textdiff.samplers.lengths import DOUBT, by_gap, count_tokens, end_probs, length_log_probs, rank_and_size

GAP = torch.tensor([[-1, 0, 0, 0, -1, 1, 1, -1], [0, 1, 1, 1, -1, -1, 2, -1]])
MINIMUM = torch.tensor([[1, 2, 0], [0, 2, 1]])
NULL = 3


def slot_log_probs():
    return torch.randn(int((GAP >= 0).sum()), 5, dtype=torch.float64, generator=seeded()).log_softmax(-1)


def test_ranks_and_sizes():
    rank, size = rank_and_size(GAP)
    assert rank.tolist() == [[0, 0, 1, 2, 0, 0, 1, 0], [0, 0, 1, 2, 0, 0, 0, 0]]
    assert size.tolist() == [[0, 3, 3, 3, 0, 2, 2, 0], [1, 3, 3, 3, 0, 0, 1, 0]]


def test_regrouping_by_gap():
    table = by_gap(torch.arange(1, 11), GAP, 3)
    assert table.tolist() == [[[1, 2, 3], [4, 5, 0], [0, 0, 0]], [[6, 0, 0], [7, 8, 9], [10, 0, 0]]]


def marginals_of(*lengths):
    """Log-marginals `[slots, 5]` of slots that hold a token or null, given the probabilities of 0, 1, ... tokens."""
    null = torch.cat([torch.tensor(probs, dtype=torch.float64)[:-1].cumsum(0) for probs in lengths])
    rest = torch.full((len(null), 4), 0.25, dtype=torch.float64) * (1 - null[:, None])
    return torch.cat((rest[:, :3], null[:, None], rest[:, 3:]), dim=1).log()


def test_the_distribution_is_recovered_from_its_marginals():
    given = [[0.1, 0.2, 0.4, 0.3], [0.2, 0.0, 0.8]], [[0.3, 0.7], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5]]
    probs = length_log_probs(marginals_of(*given[0], *given[1]), NULL, GAP, torch.zeros_like(MINIMUM)).exp()
    for row in range(2):
        for number, wanted in enumerate(given[row]):
            wanted = torch.tensor(wanted, dtype=torch.float64)
            torch.testing.assert_close(probs[row, number, : len(wanted)], wanted)
            assert not probs[row, number, len(wanted) :].any()


def test_a_minimum_conditions():
    probs = length_log_probs(marginals_of([0.1, 0.2, 0.4, 0.3]), NULL, GAP[:1, :4], torch.tensor([[2]])).exp()
    torch.testing.assert_close(probs[0, 0], torch.tensor([0, 0, 4 / 7, 3 / 7], dtype=torch.float64))


def test_marginals_that_fall_are_made_to_rise():
    # null at 0.2, 0.5, 0.4 and 1 behind: maxima 0.2, 0.5, 0.5, 1, minima 0.2, 0.4, 0.4, 1, midway 0.2, 0.45, 0.45, 1
    null = torch.tensor([0.2, 0.5, 0.4], dtype=torch.float64)
    log_probs = torch.stack((1 - null, null), dim=1).log()
    probs = length_log_probs(log_probs, 1, torch.zeros(1, 3, dtype=torch.long), torch.tensor([[0]])).exp()
    wanted = (1 - DOUBT) * torch.tensor([0.2, 0.25, 0.0, 0.55], dtype=torch.float64) + DOUBT / 4
    torch.testing.assert_close(probs[0, 0], wanted)


def test_any_marginals_give_a_distribution():
    log_probs = length_log_probs(slot_log_probs(), NULL, GAP, MINIMUM)
    probs = log_probs.exp()
    slots = by_gap(torch.ones(10, dtype=torch.long), GAP, 3).sum(-1)
    torch.testing.assert_close(probs.sum(-1), torch.ones(2, 3, dtype=torch.float64))
    n = torch.arange(4)
    assert not probs[(n < MINIMUM[..., None]) | (n > slots[..., None])].any()
    ending = end_probs(log_probs, GAP)  # the same distribution, slot by slot
    for row, slot in (GAP >= 0).nonzero().tolist():
        number, rank = int(GAP[row, slot]), int(rank_and_size(GAP)[0][row, slot])
        assert ending[row, slot] * probs[row, number, rank:].sum() == pytest.approx(float(probs[row, number, rank]))
    assert not ending[GAP < 0].any()


def test_null_marginals_of_zero_and_one():
    certain = torch.full((4, 3), -torch.inf, dtype=torch.float64)
    certain[:2, 0] = certain[2:, 2] = 0.0  # two tokens, two nulls, without a doubt
    gap = torch.zeros(1, 4, dtype=torch.long)
    assert length_log_probs(certain, 2, gap, torch.tensor([[0]])).exp().tolist() == [[[0, 0, 1, 0, 0]]]
    assert length_log_probs(certain, 2, gap, torch.tensor([[3]])).exp().tolist() == [[[0, 0, 0, 0.5, 0.5]]]
    assert length_log_probs(certain, 2, gap, torch.tensor([[4]])).exp().tolist() == [[[0, 0, 0, 0, 1]]]


def test_counting_tokens_up_to_the_trailing_nulls():
    tokens = torch.tensor([0, NULL, NULL, 1, 1, NULL, NULL, 0, NULL, NULL])
    assert count_tokens(tokens, NULL, GAP, 3).tolist() == [[1, 2, 0], [0, 2, 0]]
