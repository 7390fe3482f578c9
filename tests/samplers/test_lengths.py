"""The boundary law of gaps of unknown length."""

import torch

from tests.samplers.laws import seeded
from textdiff.samplers.lengths import by_gap, count_tokens, length_log_probs, rank_and_size

GAP = torch.tensor([[-1, 0, 0, 0, -1, 1, 1, -1], [0, 1, 1, 1, -1, -1, 2, -1]])
MINIMUM = torch.tensor([[1, 2, 0], [0, 2, 1]])
NULL = 3


def law_of_slots():
    return torch.randn(int((GAP >= 0).sum()), 5, dtype=torch.float64, generator=seeded()).log_softmax(-1)


def test_ranks_and_sizes():
    rank, size = rank_and_size(GAP)
    assert rank.tolist() == [[0, 0, 1, 2, 0, 0, 1, 0], [0, 0, 1, 2, 0, 0, 0, 0]]
    assert size.tolist() == [[0, 3, 3, 3, 0, 2, 2, 0], [1, 3, 3, 3, 0, 0, 1, 0]]


def test_regrouping_by_gap():
    table = by_gap(torch.arange(1, 11), GAP, 3)
    assert table.tolist() == [[[1, 2, 3], [4, 5, 0], [0, 0, 0]], [[6, 0, 0], [7, 8, 9], [10, 0, 0]]]


def test_the_law_is_the_product_of_null_marginals_under_the_rule():
    log_probs = law_of_slots()
    law = length_log_probs(log_probs, NULL, GAP, MINIMUM).exp()
    null = by_gap(log_probs[:, NULL].exp(), GAP, 3)
    slots = by_gap(torch.ones(10, dtype=torch.long), GAP, 3).sum(-1)
    for row in range(2):
        for gap in range(3):
            lengths = range(int(MINIMUM[row, gap]), int(slots[row, gap]) + 1)
            weights = torch.zeros(4, dtype=torch.float64)
            for n in lengths:
                weights[n] = (1 - null[row, gap, :n]).prod() * null[row, gap, n : slots[row, gap]].prod()
            assert torch.allclose(law[row, gap], weights / weights.sum())
    assert law[0, 1, 2] == law[1, 2, 1] == law[0, 2, 0] == 1


def test_null_marginals_of_zero_and_one():
    certain = torch.full((4, 3), -torch.inf, dtype=torch.float64)
    certain[:2, 0] = certain[2:, 2] = 0.0  # two tokens, two nulls, without a doubt
    gap = torch.zeros(1, 4, dtype=torch.long)
    assert length_log_probs(certain, 2, gap, torch.tensor([[0]])).exp().tolist() == [[[0, 0, 1, 0, 0]]]
    assert length_log_probs(certain, 2, gap, torch.tensor([[3]])).exp().tolist() == [[[0, 0, 0, 1, 0]]]
    assert length_log_probs(certain, 2, gap, torch.tensor([[4]])).exp().tolist() == [[[0, 0, 0, 0, 1]]]


def test_counting_tokens_up_to_the_trailing_nulls():
    tokens = torch.tensor([0, NULL, NULL, 1, 1, NULL, NULL, 0, NULL, NULL])
    assert count_tokens(tokens, NULL, GAP, 3).tolist() == [[1, 2, 0], [0, 2, 0]]
