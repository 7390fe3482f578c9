"""Evidence composes, and says in one line what is wrong with it."""

import math

import pytest
import torch

from textdiff.errors import UserError
from textdiff.evidence import Both, Likelihood, Observed
from textdiff.priors import hmm
from textdiff.text import Canvas


@pytest.fixture(scope="module")
def tokenizer():
    return hmm(states=2, symbols=4).tokenizer


def ones(tokens):
    return torch.ones(len(tokens))


def test_fixed_tokens_unite(tokenizer) -> None:
    both = Observed("a[gap:3]d") & Observed("a[gap:1]b[gap:1]d")
    canvas = both.canvas(tokenizer)
    assert tokenizer.decode(canvas.tokens[0]) == "<|bos|>a<|mask|>b<|mask|>d<|eos|>"
    assert canvas.gap[0].tolist() == [-1, -1, 0, -1, 1, -1, -1] and canvas.minimum.tolist() == [[1, 1]]
    assert both.template is None and not both.weighs


def test_likelihoods_multiply_and_the_template_stays(tokenizer) -> None:
    evidence = Likelihood(ones) & Observed("a[gap:2]d") & Likelihood(lambda tokens: 2 * ones(tokens))
    assert isinstance(evidence, Both) and evidence.weighs
    assert str(evidence.template) == "a[gap:2]d"
    tokens = evidence.canvas(tokenizer).tokens.repeat(3, 1)
    assert evidence.log_likelihood(tokens).tolist() == [3.0, 3.0, 3.0]
    assert evidence.log_potential(tokens, tokens > 0).tolist() == [0.0, 0.0, 0.0]


def test_a_look_ahead_is_asked_about_unfinished_texts(tokenizer) -> None:
    evidence = Observed("a[gap:2]d") & Likelihood(ones, lambda tokens, masked: masked.sum(dim=1).double())
    canvas = evidence.canvas(tokenizer)
    assert evidence.log_potential(canvas.tokens, canvas.slots).tolist() == [2.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: Observed("no gap"), "no gap"),
        (lambda t: Observed(Observed("a[gap:2]b").canvas(t).repeat(2)), "2 rows"),
        (lambda t: (Observed("a[gap:2]b") & Observed("a[gap:1-2]b")).canvas(t), "open length"),
        (lambda t: (Observed("a[gap:2]b") & Observed("a[gap:2]c")).canvas(t), "contradict each other at token 4"),
        (lambda t: Likelihood(lambda x: torch.full((len(x),), math.nan)).log_likelihood(torch.ones(2, 3)), "gave nan"),
        (lambda t: Likelihood(lambda x: torch.full((len(x),), math.inf)).log_likelihood(torch.ones(2, 3)), "gave inf"),
        (lambda t: Likelihood(lambda x: 3.0).log_likelihood(torch.ones(2, 3)), "gave float for 2 texts"),
    ],
)
def test_mistakes_get_one_clear_line(make, message, tokenizer) -> None:
    with pytest.raises(UserError, match=message) as error:
        make(tokenizer)
    assert "\n" not in str(error.value)


def test_a_canvas_is_evidence(tokenizer) -> None:
    canvas = Observed("a[gap:2]d").canvas(tokenizer)
    again = Observed(Canvas.of(canvas.tokens, tokenizer.mask_token_id))
    assert torch.equal(again.canvas(tokenizer).gap, canvas.gap) and again.template is None
