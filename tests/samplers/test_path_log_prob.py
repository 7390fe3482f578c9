"""Scores of given fills: they sum to one, are those that draws report, and can be differentiated."""

import pytest
import torch

from tests.helpers.laws import (
    EXACT,
    ONE_BY_ONE,
    SEVERAL_AT_ONCE,
    canvas_of,
    seeded,
)
from tests.helpers.sampling import (
    DRAWS,
    GIVEN,
    NULLABLE,
    PLAIN,
    TWO_GAPS,
    WHOLE,
    enumerated,
    score,
)
from textdiff.errors import UserError
from textdiff.samplers import (
    Entropy,
    LeftToRight,
    RandomOrder,
    Strided,
    Tempering,
    Threshold,
    path_log_prob,
    sample,
)
from textdiff.testing import enumerate_fills, frequencies, iid_noise, total_variation
from textdiff.testing.tables import TableDenoiser, TableOracle, order_log_probs


@pytest.mark.parametrize("row", [WHOLE, TWO_GAPS], ids=str)
@pytest.mark.parametrize("policy", EXACT, ids=str)
def test_exact_probabilities_sum_to_one_for_any_denoiser(policy, row):
    _, q = enumerated(TableDenoiser(3, 4, seed=1), canvas_of(PLAIN, row), PLAIN, policy)
    assert abs(float(q.sum()) - 1) < 1e-9


@pytest.mark.parametrize("policy", [policy for policy in ONE_BY_ONE if policy in EXACT], ids=str)
def test_one_token_per_step_scores_the_posterior(policy):
    oracle, canvas = TableOracle.random(3, 4), canvas_of(PLAIN, GIVEN)
    tokens, q = enumerated(oracle, canvas, PLAIN, policy)
    assert torch.allclose(q.log(), oracle.log_prob(tokens) - oracle.log_prob(canvas.tokens), atol=1e-12)


@pytest.mark.parametrize("policy", [*SEVERAL_AT_ONCE, LeftToRight(), RandomOrder()], ids=str)
@pytest.mark.parametrize("null", [False, True], ids=["plain", "null"])
def test_a_sample_knows_its_own_probability(policy, null):
    vocabulary = NULLABLE if null else PLAIN
    canvas = canvas_of(vocabulary, TWO_GAPS, minimum=[1, 0] if null else None).repeat(50)
    denoiser = TableDenoiser(3, 4, seed=2, null=null)
    drawn = sample(denoiser, canvas, vocabulary, policy, seeded(5))
    scored = path_log_prob(denoiser, canvas, vocabulary, policy, drawn.tokens, generator=seeded(5))
    assert drawn.kind is scored.kind is policy.kind
    assert drawn.log_q.dtype is torch.float64
    assert torch.equal(drawn.log_q, scored.log_q)
    assert torch.equal(drawn.nfe, scored.nfe)
    assert torch.equal(drawn.steps, scored.steps)


def test_random_order_sums_to_one_given_each_order():
    denoiser, canvas = TableDenoiser(3, 4, seed=1), canvas_of(PLAIN, TWO_GAPS)
    for policy in (RandomOrder(), RandomOrder(2)):
        for seed in range(3):
            total = 0.0
            for text in enumerate_fills(canvas, PLAIN):  # one row at a time, so that all use the same order
                total += score(denoiser, canvas, PLAIN, policy, text[None], generator=seeded(seed)).exp().item()
            assert abs(total - 1) < 1e-9


def test_random_order_scores_are_those_of_the_orders_equally_often():
    denoiser, canvas = TableDenoiser(3, 4, seed=1), canvas_of(PLAIN, WHOLE)
    text = torch.tensor([0, 2, 1, 1])
    orders, place = order_log_probs(denoiser, text, canvas.observed[0], PLAIN.mask).sort()
    scores = score(denoiser, canvas, PLAIN, RandomOrder(), text.expand(4800, -1), generator=seeded())
    nearest = (scores[:, None] - orders).abs().min(dim=1)
    assert nearest.values.max() < 1e-12
    counts = nearest.indices.bincount(minlength=24)
    assert len(place) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 58  # 23 degrees of freedom: p = 1e-4


@pytest.mark.parametrize("temperature, top_p", [(0.5, 1.0), (2.0, 1.0), (1.0, 0.7), (0.7, 0.8)])
@pytest.mark.parametrize("policy", [LeftToRight(), Strided(2), Entropy(2), Threshold(0.45)], ids=str)
def test_the_probability_is_that_of_the_tempered_distribution(policy, temperature, top_p):
    denoiser, canvas = TableDenoiser(3, 4, seed=1), canvas_of(PLAIN, WHOLE)
    options = {"tempering": Tempering(temperature, top_p)}
    tokens, q = enumerated(denoiser, canvas, PLAIN, policy, **options)
    assert abs(float(q.sum()) - 1) < 1e-9
    assert (q == 0).any() == (top_p < 1)
    drawn = sample(denoiser, canvas.repeat(DRAWS), PLAIN, policy, seeded(), **options)
    assert torch.allclose(drawn.log_q, score(denoiser, canvas, PLAIN, policy, drawn.tokens, **options))
    assert total_variation(q, frequencies(drawn.tokens, tokens)) < 1.5 * iid_noise(q, DRAWS)


def test_tempering_acts_on_each_conditional():
    denoiser, canvas = TableDenoiser(3, 4, seed=1), canvas_of(PLAIN, GIVEN)
    text = torch.tensor([[2, 0, 1, 1]])
    expected, shown = 0.0, canvas.tokens.clone()
    for position in range(3):
        log_probs = Tempering(0.6, 0.95)(denoiser.log_probs(shown, canvas.observed)[:, position])
        expected += float(log_probs[0, text[0, position]])
        shown[0, position] = text[0, position]
    found = score(denoiser, canvas, PLAIN, LeftToRight(), text, tempering=Tempering(0.6, 0.95))
    assert found.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("policy", [LeftToRight(), Strided(2), Entropy(2)], ids=str)
def test_scores_can_be_differentiated(policy):
    denoiser = TableDenoiser(3, 4, seed=1, null=True)
    logits = denoiser._table.requires_grad_()
    canvas = canvas_of(NULLABLE, WHOLE, minimum=[1])
    tokens = enumerate_fills(canvas, NULLABLE)
    possible = score(denoiser, canvas, NULLABLE, policy, tokens).isfinite()
    log_q = score(denoiser, canvas, NULLABLE, policy, tokens[possible])
    # The probabilities sum to one whatever the parameters, so the expected score vanishes; no single score does.
    (expected,) = torch.autograd.grad(log_q.exp().sum(), logits, retain_graph=True)
    (single,) = torch.autograd.grad(log_q[0], logits)
    assert expected.abs().max() < 1e-9
    assert single.isfinite().all()
    assert single.abs().max() > 0.1


def test_tokens_to_score_must_agree_with_the_evidence():
    canvas = canvas_of(PLAIN, GIVEN)
    for tokens in (torch.tensor([[0, 0, 0, 2]]), torch.tensor([[0, 0, 0]])):
        with pytest.raises(ValueError, match="differ from the canvas"):
            path_log_prob(TableDenoiser(3, 4), canvas, PLAIN, Strided(), tokens)


def test_a_random_order_is_scored_with_a_generator():
    canvas = canvas_of(PLAIN, WHOLE)
    with pytest.raises(UserError, match="needs a generator"):
        path_log_prob(TableDenoiser(3, 4), canvas, PLAIN, RandomOrder(), torch.zeros(1, 4, dtype=torch.long))
