"""Any-order likelihood: the importance bound and the exact subset recursion, against brute force over orders."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.oracle import TableDenoiser, TableOracle, order_log_probs
from textdiff.denoisers import any_order_bound, subset_log_prob
from textdiff.errors import UserError

TABLE = TableDenoiser(symbols=3, length=5, seed=1)
TOKENS = torch.tensor([2, 0, 1, 1, 0])
OBSERVED = torch.tensor([False, True, False, False, False])
ORDERS = order_log_probs(TABLE, TOKENS, OBSERVED, TABLE.mask_id)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ragged(rows=24, length=5):
    tokens = torch.randint(0, 3, (rows, length), generator=generator(1))
    observed = torch.rand(rows, length, generator=generator(2)) < torch.linspace(0, 1, rows)[:, None]
    observed[-1] = True
    return tokens, observed


def bounds(orders, rows=4000):
    tokens, observed = TOKENS.expand(rows, -1), OBSERVED.expand(rows, -1)
    values = any_order_bound(TABLE, tokens, observed, TABLE.mask_id, orders, generator(orders))
    return values.mean(), values.std() / rows**0.5


def log_mean_exp(values):
    return values.logsumexp(0) - math.log(len(values))


def test_bound_with_one_order_has_the_nelbo_as_its_mean():
    """Within 4 standard errors of the mean over all 24 orders."""
    mean, error = bounds(1)
    assert abs(mean + ORDERS.mean()) < 4 * error < 0.15


def test_bound_with_two_orders_has_the_mean_over_all_pairs():
    """Within 4 standard errors of the value enumerated over the 24 x 24 pairs of orders."""
    mean, error = bounds(2)
    pairs = math.log(2) - torch.logaddexp(ORDERS[:, None], ORDERS)
    assert abs(mean - pairs.mean()) < 4 * error < 0.15


def test_bound_falls_with_more_orders_towards_the_exact_value():
    """Each fall from K = 1, 2, 4, 16 exceeds 4 standard errors; at K = 1000 a row is within 5 % of the exact value."""
    means, errors = zip(*(bounds(orders) for orders in (1, 2, 4, 16)), strict=True)
    for k in range(3):
        assert means[k] - means[k + 1] > 4 * (errors[k] ** 2 + errors[k + 1] ** 2) ** 0.5
    exact = -subset_log_prob(TABLE, TOKENS[None], OBSERVED[None], TABLE.mask_id).item()
    assert means[-1] > exact
    many, _ = bounds(1000, rows=2)
    assert many.item() == pytest.approx(exact, rel=0.05)


def test_bound_is_exact_for_a_joint_law_and_for_ragged_rows():
    oracle, (tokens, observed) = TableOracle.random(3, 5), ragged()
    canvas = tokens.masked_fill(~observed, oracle.mask_id)
    truth = oracle.log_prob(canvas) - oracle.log_prob(tokens)
    torch.testing.assert_close(any_order_bound(oracle, tokens, observed, oracle.mask_id, 3, generator()), truth)


def test_subset_recursion_is_the_average_over_permutations():
    tokens, observed = ragged()
    brute = [log_mean_exp(order_log_probs(TABLE, x, o, TABLE.mask_id)) for x, o in zip(tokens, observed, strict=True)]
    exact = subset_log_prob(TABLE, tokens, observed, TABLE.mask_id)
    torch.testing.assert_close(exact, torch.stack(brute))
    assert exact[-1] == 0


def test_subset_recursion_is_the_conditional_log_prob_of_a_joint_law():
    oracle, (tokens, observed) = TableOracle.random(3, 5), ragged()
    truth = oracle.log_prob(tokens) - oracle.log_prob(tokens.masked_fill(~observed, oracle.mask_id))
    torch.testing.assert_close(subset_log_prob(oracle, tokens, observed, oracle.mask_id), truth)


def test_subset_recursion_takes_twelve_tokens_and_no_more():
    oracle = TableOracle.random(2, 12)
    tokens = oracle.outcomes[[1234]]
    nothing = torch.zeros_like(tokens, dtype=torch.bool)
    torch.testing.assert_close(subset_log_prob(oracle, tokens, nothing, 2), oracle.log_prob(tokens))
    with pytest.raises(UserError, match=r"13 unknown tokens.*any_order_bound"):
        subset_log_prob(oracle, *(F.pad(x, (0, 1)) for x in (tokens, nothing)), 2)


def test_probabilities_of_all_fills_sum_to_one():
    fills = TABLE.outcomes[TABLE.outcomes[:, 1] == 0]
    total = subset_log_prob(TABLE, fills, OBSERVED.expand(len(fills), -1), TABLE.mask_id).exp().sum()
    assert len(fills) == 81
    assert total.item() == pytest.approx(1, abs=1e-12)


def test_neither_chunks_nor_padding_nor_neighbours_matter():
    tokens, observed = ragged()
    whole = subset_log_prob(TABLE, tokens, observed, TABLE.mask_id)
    torch.testing.assert_close(subset_log_prob(TABLE, tokens, observed, TABLE.mask_id, chunk=1), whole)
    padded = F.pad(tokens, (0, 2)), F.pad(observed, (0, 2), value=True)
    torch.testing.assert_close(subset_log_prob(TABLE, *padded, TABLE.mask_id), whole)
    torch.testing.assert_close(subset_log_prob(TABLE, tokens[5:7], observed[5:7], TABLE.mask_id), whole[5:7])
    bound = any_order_bound(TABLE, tokens, observed, TABLE.mask_id, 2, generator())
    torch.testing.assert_close(any_order_bound(TABLE, tokens, observed, TABLE.mask_id, 2, generator(), chunk=1), bound)


def test_gradient_is_that_of_brute_force():
    table = TableDenoiser(symbols=3, length=5)
    answers = table._table.requires_grad_()
    exact = subset_log_prob(table, TOKENS[None], OBSERVED[None], table.mask_id).sum()
    brute = log_mean_exp(order_log_probs(table, TOKENS, OBSERVED, table.mask_id))
    torch.testing.assert_close(*(torch.autograd.grad(value, answers)[0] for value in (exact, brute)))
