"""The NELBO: one value for all schedules and both forms, namely the mean over all orders."""

import pytest
import torch

from tests.helpers.oracle import TableDenoiser, TableOracle, order_log_probs
from textdiff.denoisers import nelbo, nelbo_exact_k
from textdiff.diffusion import Linear, MaskedDiffusion, Polynomial

TABLE = TableDenoiser(symbols=3, length=5, seed=1)
TOKENS = torch.tensor([2, 0, 1, 1, 0])
OBSERVED = torch.tensor([False, True, False, False, False])


class Watched:
    """Passes a table's answers on, and keeps the canvases it was asked about."""

    def __init__(self, table):
        self.table, self.canvases, self.asked = table, [], []

    def log_probs(self, canvas, observed, where=None, null=False):
        self.canvases.append(canvas)
        self.asked.append(where)
        return self.table.log_probs(canvas, observed, where, null)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def exact():
    return -order_log_probs(TABLE, TOKENS, OBSERVED, TABLE.mask_id).mean().item()


def estimate(form, rows=20000):
    """Mean over many copies of one row, and its standard error (an upper bound: the times are stratified)."""
    tokens, observed = TOKENS.expand(rows, -1), OBSERVED.expand(rows, -1)
    values = form(TABLE, tokens, observed)
    assert values.shape == (rows,)
    return values.mean().item(), (values.std() / rows**0.5).item()


def test_continuous_time_value_is_the_mean_over_orders_for_every_schedule(schedule):
    """Within 4 standard errors, each below 1.5 % of the value."""
    process = MaskedDiffusion(schedule, TABLE.mask_id)
    mean, error = estimate(lambda *args: nelbo(*args, process, generator()))
    assert error < 0.015 * exact()
    assert abs(mean - exact()) < 4 * error


def test_exact_k_value_is_the_mean_over_orders():
    """Within 4 standard errors, which are below 0.5 % of the value."""
    mean, error = estimate(lambda *args: nelbo_exact_k(*args, TABLE.mask_id, generator()))
    assert error < 0.005 * exact()
    assert abs(mean - exact()) < 4 * error


def test_samples_are_averaged_per_row():
    """The mean over 20000 samples of one row is within 2 % of the exact value, in both forms."""
    tokens, observed = TOKENS[None], OBSERVED[None]
    process = MaskedDiffusion(Polynomial(2.0), TABLE.mask_id)
    for value in (
        nelbo(TABLE, tokens, observed, process, generator(), samples=20000),
        nelbo_exact_k(TABLE, tokens, observed, TABLE.mask_id, generator(), samples=20000),
    ):
        assert value.item() == pytest.approx(exact(), rel=0.02)


def test_a_joint_law_makes_the_bound_tight_at_the_conditional_log_prob():
    """For an oracle every order has the same value, so that the NELBO is `-log p`, within 4 standard errors."""
    oracle = TableOracle.random(3, 4)
    tokens = torch.tensor([0, 2, 1, 1]).expand(20000, -1)
    observed = torch.tensor([True, False, False, True]).expand(20000, -1)
    values = nelbo_exact_k(oracle, tokens, observed, oracle.mask_id, generator())
    canvas = tokens[:1].masked_fill(~observed[:1], oracle.mask_id)
    truth = oracle.log_prob(canvas) - oracle.log_prob(tokens[:1])
    assert abs(values.mean() - truth) < 4 * values.std() / 20000**0.5


def forms(mask_id):
    process = MaskedDiffusion(Linear(), mask_id)
    return [
        lambda *args, **options: nelbo(*args, process, generator(), **options),
        lambda *args, **options: nelbo_exact_k(*args, mask_id, generator(), **options),
    ]


@pytest.mark.parametrize("form", forms(TABLE.mask_id), ids=["continuous", "exact_k"])
def test_observed_positions_are_never_masked_nor_asked_and_ragged_rows_are_welcome(form):
    tokens = torch.randint(0, 3, (64, 5), generator=generator(1))
    observed = torch.rand(64, 5, generator=generator(2)) < torch.linspace(0, 1, 64)[:, None]
    observed[-1] = True
    watched = Watched(TABLE)
    value = form(watched, tokens, observed, samples=3)
    rows = tokens.repeat(3, 1), observed.repeat(3, 1)
    canvas, asked = torch.cat(watched.canvases), torch.cat(watched.asked)
    assert torch.equal(canvas[rows[1]], rows[0][rows[1]])
    assert torch.equal(asked, canvas == TABLE.mask_id)
    assert value[-1] == 0
    assert torch.equal(form(TABLE, tokens, observed, samples=3, chunk=1), value)


def test_every_k_occurs_equally_often_when_samples_are_a_multiple_of_n():
    watched = Watched(TABLE)
    nelbo_exact_k(watched, TOKENS[None].repeat(3, 1), OBSERVED.expand(3, -1), TABLE.mask_id, generator(), samples=8)
    counts = torch.cat(watched.asked).sum(-1).view(8, 3)
    assert torch.equal(counts.sort(0).values, torch.arange(1, 5).repeat_interleave(2)[:, None].expand(8, 3))


def test_gradients_reach_the_denoiser():
    table = TableDenoiser(symbols=3, length=5)
    table._table.requires_grad_()
    for form in forms(table.mask_id):
        form(table, TOKENS[None], OBSERVED[None], samples=4).sum().backward()
        assert table._table.grad.isfinite().all()
        assert table._table.grad.abs().sum() > 0
