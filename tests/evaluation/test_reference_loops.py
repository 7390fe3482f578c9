"""The reference loops are implemented correctly: at one token per step they sample the posterior of the network."""

import pytest
import torch

from tests.helpers.laws import canvas_of, frequencies, iid_noise, seeded, total_variation
from tests.helpers.networks import MASK, network, tokens, vocabulary
from textdiff.evaluation.reference_loops import UncachedDenoiser, common_loop, logits_of, reuse_loop
from textdiff.samplers import Entropy, Strided, sample
from textdiff.testing.tables import TableOracle
from textdiff.text import Canvas, Vocabulary

DRAWS = 3000
WHOLE = [None] * 4
GIVEN = [None, None, None, 1]


def distance(loop, row, steps, **options):
    """Total variation to the exact posterior, in multiples of that of draws from the posterior itself."""
    toy, oracle = Vocabulary.toy(4), TableOracle.random(4, 4, sharpness=1.5)
    canvas = canvas_of(toy, row)
    posterior = oracle.posterior(canvas.tokens)[0]
    many = canvas.tokens.repeat(DRAWS, 1)
    found, _ = loop(lambda x: oracle.log_probs(x, x != toy.mask), many, toy.mask, steps, seeded(2), **options)
    return total_variation(posterior, frequencies(found, oracle.outcomes)) / iid_noise(posterior, DRAWS)


@pytest.mark.parametrize("row", [WHOLE, GIVEN], ids=str)
def test_the_common_loop_in_random_order_samples_the_posterior(row):
    assert distance(common_loop, row, row.count(None)) < 1.5


def test_several_tokens_at_once_or_low_confidence_do_not_sample_it():
    assert distance(common_loop, WHOLE, 2) > 2
    assert distance(common_loop, WHOLE, 4, order="low-confidence") > 4
    assert distance(common_loop, WHOLE, 4, temperature=0.0, order="low-confidence") > 4


def test_the_reuse_loop_converges_to_the_posterior_in_small_steps():
    assert distance(reuse_loop, WHOLE, 1) > 2
    assert distance(reuse_loop, WHOLE, 100) < 1.5


def test_probabilities_are_reused_while_nothing_changes():
    oracle, calls = TableOracle.random(4, 4), []

    def logits(x):
        calls.append(len(x))
        return oracle.log_probs(x, x != 4)

    found, passes = reuse_loop(logits, torch.full((1, 4), 4), 4, 200, seeded())
    assert len(calls) == passes <= 4
    assert (found != 4).all()


def test_tokens_are_spread_over_the_steps():
    seen = []

    def logits(x):
        seen.append(int((x == 9).sum()))
        return torch.zeros(*x.shape, 10).index_fill(-1, torch.tensor([9]), -torch.inf)

    _, passes = common_loop(logits, torch.full((2, 5), 9), 9, 3, seeded())
    assert (seen, passes) == ([10, 6, 2], 3)
    assert common_loop(logits, torch.full((2, 5), 9), 9, 8, seeded())[1] == 5


@pytest.mark.parametrize("policy", [Strided(3), Entropy(3)], ids=str)
def test_a_denoiser_without_cache_gives_the_same_fills(policy):
    net, v = network(), vocabulary()
    text = tokens(2, 20)
    text[:, 3:8] = text[:, 12:16] = MASK
    canvas = Canvas.of(text, MASK).repeat(3)
    ours, uncached = (sample(denoiser, canvas, v, policy, seeded(5)) for denoiser in (net, UncachedDenoiser(net)))
    assert torch.equal(ours.tokens, uncached.tokens)
    torch.testing.assert_close(ours.log_q, uncached.log_q)


def test_logits_agree_with_the_denoiser():
    net = network()
    text = tokens(3, 12)
    text[:, 4:8] = MASK
    canvas = Canvas.of(text, MASK)
    theirs = logits_of(net, canvas.observed)(canvas.tokens).log_softmax(-1)
    torch.testing.assert_close(theirs, net.log_probs(canvas.tokens, canvas.observed))
