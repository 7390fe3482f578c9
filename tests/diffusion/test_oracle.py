"""The exactly known denoisers that other tests compare with, checked themselves."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.any_order import any_order_log_prob
from textdiff.testing.tables import TableDenoiser, TableOracle, order_log_probs


@pytest.fixture(params=[False, True], ids=["content", "null"])
def oracle(request):
    return TableOracle.random(symbols=4, length=3, null=request.param)


def every_canvas(table):
    return torch.cartesian_prod(*[torch.arange(table.size)] * table.length)


def test_marginals_are_those_of_the_posterior(oracle):
    canvas = every_canvas(oracle)
    marginals = torch.einsum("bn,nlv->blv", oracle.posterior(canvas), F.one_hot(oracle.outcomes, oracle.size).double())
    log_probs = oracle.log_probs(canvas, canvas != oracle.mask_id, null=True)
    assert log_probs.dtype == torch.float64
    torch.testing.assert_close(log_probs.exp(), marginals, rtol=0, atol=1e-14)


def test_where_null_is_excluded_the_distribution_is_that_of_the_content(oracle):
    canvas = every_canvas(oracle)
    observed = canvas != oracle.mask_id
    full, content = (oracle.log_probs(canvas, observed, null=null) for null in (True, False))
    if oracle.null_id is None:
        assert torch.equal(full, content)
        return
    assert torch.equal(full[observed], content[observed])
    assert (content[~observed][:, oracle.null_id] == -torch.inf).all()
    expected = full[~observed].index_fill(1, torch.tensor(oracle.null_id), -torch.inf).log_softmax(-1)
    torch.testing.assert_close(content[~observed], expected)


def test_where_only_null_is_possible_every_content_is_equally_likely():
    oracle = TableOracle(torch.tensor([[0.2, 0.2, 0.2], [0.0, 0.0, 0.4], [0.0, 0.0, 0.0]]), null=True)
    canvas, observed = torch.tensor([[1, oracle.mask_id]]), torch.tensor([[True, False]])
    assert oracle.log_probs(canvas, observed, null=True)[0, 1].exp().tolist() == [0.0, 0.0, 0.0, 1.0]
    assert oracle.log_probs(canvas, observed)[0, 1].exp().tolist() == [0.5, 0.5, 0.0, 0.0]


def test_log_prob_is_the_posterior_up_to_the_evidence(oracle):
    canvas = oracle.outcomes[[5]].masked_fill(torch.tensor([True, False, True]), oracle.mask_id)
    agree = oracle.posterior(canvas)[0] > 0
    assert agree.sum() == 16
    log_posterior = oracle.log_prob(oracle.outcomes[agree]) - oracle.log_prob(canvas)
    torch.testing.assert_close(oracle.posterior(canvas)[0, agree].log(), log_posterior)


def test_a_joint_distribution_gives_every_order_the_same_value_and_a_table_does_not(oracle):
    tokens, observed = oracle.outcomes[11], torch.zeros(3, dtype=torch.bool)
    values = order_log_probs(oracle, tokens, observed, oracle.mask_id, null=True)
    torch.testing.assert_close(values, oracle.log_prob(tokens[None]).expand(6))
    arbitrary = TableDenoiser(symbols=4, length=3)
    assert order_log_probs(arbitrary, arbitrary.outcomes[11], observed, arbitrary.mask_id).std() > 0.1


def test_any_order_log_prob_is_the_average_over_permutations():
    table, observed = TableDenoiser(symbols=3, length=5, seed=1), torch.tensor([False, True, False, False, False])
    tokens = torch.tensor([[2, 0, 1, 1, 0], [0, 0, 2, 1, 2]])
    brute = [order_log_probs(table, row, observed, table.mask_id).logsumexp(0) - math.log(24) for row in tokens]
    torch.testing.assert_close(any_order_log_prob(table, tokens, observed, table.mask_id), torch.stack(brute))


@pytest.mark.parametrize("table", [TableOracle.random(3, 3), TableDenoiser(3, 3), TableDenoiser(3, 3, null=True)])
def test_answers_are_normalised_without_mass_on_the_mask_and_pad_columns_are_copied(table):
    canvas = F.pad(every_canvas(table), (0, 2), value=1)
    observed = F.pad(torch.zeros(len(canvas), 3, dtype=torch.bool), (0, 2), value=True)
    log_probs = table.log_probs(canvas, observed)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(canvas.shape, dtype=torch.float64))
    assert (log_probs[..., table.mask_id] == -torch.inf).all()
    torch.testing.assert_close(log_probs[:, :3], table.log_probs(canvas[:, :3], observed[:, :3]))
    visible = canvas != table.mask_id
    torch.testing.assert_close(log_probs[visible].exp(), F.one_hot(canvas[visible], table.size).double())
    where = torch.rand(canvas.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    assert torch.equal(table.log_probs(canvas, observed, where), log_probs[where])


def test_an_impossible_canvas_has_uniform_answers():
    joint = torch.tensor([[0.5, 0.5], [0.0, 0.0]])
    oracle = TableOracle(joint)
    answer = oracle.log_probs(torch.tensor([[1, 2]]), torch.tensor([[True, False]])).exp()
    torch.testing.assert_close(answer[0, 1], torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64))
