"""Guidance: its formula, cases without effect, and the log-probabilities of guided draws."""

import pytest
import torch

from tests.helpers.laws import canvas_of, seeded
from textdiff.denoisers import Guided
from textdiff.errors import UserError
from textdiff.samplers import Strided, path_log_prob, sample
from textdiff.testing.tables import TableOracle
from textdiff.text import Vocabulary

V = Vocabulary.toy(3)


def guided_log_probs(oracle, weight, row=(1, None, None, 2)):
    canvas = canvas_of(V, list(row))
    return Guided(oracle, V, weight).log_probs(canvas.tokens, canvas.observed, canvas.slots)


def test_the_formula():
    oracle = TableOracle.random(3, 4, seed=2)
    conditional = guided_log_probs(oracle, 0.0)
    blank = torch.full((1, 4), V.mask)
    unconditional = oracle.log_probs(blank, torch.zeros(1, 4, dtype=torch.bool))[0, 1:3]
    expected = (
        (conditional + 1.5 * (conditional - unconditional)).where(conditional > -torch.inf, -torch.inf).log_softmax(-1)
    )
    assert torch.allclose(guided_log_probs(oracle, 1.5), expected)
    canvas = canvas_of(V, [1, None, None, 2])
    assert torch.allclose(conditional, oracle.log_probs(canvas.tokens, canvas.observed, canvas.slots))


def test_uninformative_evidence_has_no_effect():
    probs = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    oracle = TableOracle(torch.einsum("a,b,c,d->abcd", probs, probs, probs, probs))
    assert torch.allclose(guided_log_probs(oracle, 3.0).exp()[..., :3], probs.expand(2, 3))


def test_impossible_tokens_stay_impossible():
    joint = torch.zeros(3, 3, 3, 3)
    joint[1, 0, 0, 2] = joint[1, 1, 0, 2] = joint[0, 2, 1, 1] = 1
    probs = guided_log_probs(TableOracle(joint), 2.0).exp()
    assert not probs.isnan().any() and torch.equal(probs[1, :3], torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))


def test_log_q_is_that_of_the_guided_sampler():
    oracle = TableOracle.random(3, 4, seed=5)
    guided = Guided(oracle, V, 1.0)
    fills = torch.cartesian_prod(*[torch.arange(3)] * 3)
    canvas = canvas_of(V, [2, None, None, None]).repeat(len(fills))
    tokens = canvas.tokens.masked_scatter(canvas.slots, fills)
    log_q = path_log_prob(guided, canvas, V, Strided(2), tokens).log_q
    assert float(log_q.exp().sum()) == pytest.approx(1)
    drawn = sample(guided, canvas, V, Strided(2), seeded())
    assert torch.allclose(path_log_prob(guided, canvas, V, Strided(2), drawn.tokens).log_q, drawn.log_q)


def test_both_passes_of_a_step_are_counted(monkeypatch):
    oracle, calls = TableOracle.random(3, 4, seed=5), []
    answer = oracle.log_probs
    monkeypatch.setattr(oracle, "log_probs", lambda *given, **named: calls.append(1) or answer(*given, **named))
    drawn = sample(Guided(oracle, V, 1.0), canvas_of(V, [2, None, None, None]), V, Strided(2), seeded())
    assert drawn.nfe.tolist() == [len(calls)] == [4] and drawn.steps.tolist() == [2]


def test_a_weight_below_zero_is_refused():
    with pytest.raises(UserError, match="expected a number, 0 or more"):
        Guided(TableOracle.random(3, 4), V, -1.0)
