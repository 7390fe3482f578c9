"""The NELBO is the mean over all orders of revealing one token at a time."""

import pytest
import torch

from textdiff.denoisers import nelbo_exact_k
from textdiff.testing.tables import TableDenoiser, TableOracle, order_log_probs

TABLE = TableDenoiser(symbols=3, length=5, seed=1)
TOKENS = torch.tensor([2, 0, 1, 1, 0])
OBSERVED = torch.tensor([False, True, False, False, False])


class Recorded:
    """Passes a table's answers on, and keeps the canvases and positions that were queried."""

    def __init__(self, table):
        self.table, self.canvases, self.where = table, [], []

    def log_probs(self, canvas, observed, where=None, null=False):
        self.canvases.append(canvas)
        self.where.append(where)
        return self.table.log_probs(canvas, observed, where, null)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def exact():
    return -order_log_probs(TABLE, TOKENS, OBSERVED, TABLE.mask_id).mean().item()


def test_exact_k_value_is_the_mean_over_orders():
    """Of 20000 copies of a row within 4 standard errors (upper bounds: k is stratified), below 0.5 % of the value."""
    tokens, observed = TOKENS.expand(20000, -1), OBSERVED.expand(20000, -1)
    values = nelbo_exact_k(TABLE, tokens, observed, TABLE.mask_id, generator())
    assert values.shape == (20000,)
    error = values.std() / 20000**0.5
    assert error < 0.005 * exact()
    assert abs(values.mean() - exact()) < 4 * error


def test_samples_are_averaged_per_row():
    """The mean over 20000 samples of one row is within 2 % of the exact value."""
    value = nelbo_exact_k(TABLE, TOKENS[None], OBSERVED[None], TABLE.mask_id, generator(), samples=20000)
    assert value.item() == pytest.approx(exact(), rel=0.02)


def test_a_joint_distribution_makes_the_bound_tight_at_the_conditional_log_prob():
    """For an oracle every order has the same value, so that the NELBO is `-log p`, within 4 standard errors."""
    oracle = TableOracle.random(3, 4)
    tokens = torch.tensor([0, 2, 1, 1]).expand(20000, -1)
    observed = torch.tensor([True, False, False, True]).expand(20000, -1)
    values = nelbo_exact_k(oracle, tokens, observed, oracle.mask_id, generator())
    canvas = tokens[:1].masked_fill(~observed[:1], oracle.mask_id)
    truth = oracle.log_prob(canvas) - oracle.log_prob(tokens[:1])
    assert abs(values.mean() - truth) < 4 * values.std() / 20000**0.5


def test_observed_positions_are_never_masked_nor_scored_and_rows_may_differ_in_length():
    tokens = torch.randint(0, 3, (64, 5), generator=generator(1))
    observed = torch.rand(64, 5, generator=generator(2)) < torch.linspace(0, 1, 64)[:, None]
    observed[-1] = True
    recorded = Recorded(TABLE)
    value = nelbo_exact_k(recorded, tokens, observed, TABLE.mask_id, generator(), samples=3)
    rows = tokens.repeat(3, 1), observed.repeat(3, 1)
    canvas, where = torch.cat(recorded.canvases), torch.cat(recorded.where)
    assert torch.equal(canvas[rows[1]], rows[0][rows[1]])
    assert torch.equal(where, canvas == TABLE.mask_id)
    assert value[-1] == 0
    again = nelbo_exact_k(TABLE, tokens, observed, TABLE.mask_id, generator(), samples=3, chunk=1)
    assert torch.equal(again, value)


def test_every_k_occurs_equally_often_when_samples_are_a_multiple_of_n():
    recorded = Recorded(TABLE)
    nelbo_exact_k(recorded, TOKENS[None].repeat(3, 1), OBSERVED.expand(3, -1), TABLE.mask_id, generator(), samples=8)
    counts = torch.cat(recorded.where).sum(-1).view(8, 3)
    assert torch.equal(counts.sort(0).values, torch.arange(1, 5).repeat_interleave(2)[:, None].expand(8, 3))


def test_gradients_reach_the_denoiser():
    table = TableDenoiser(symbols=3, length=5)
    table._table.requires_grad_()
    nelbo_exact_k(table, TOKENS[None], OBSERVED[None], table.mask_id, generator(), samples=4).sum().backward()
    assert table._table.grad.isfinite().all()
    assert table._table.grad.abs().sum() > 0
