"""The sampler with an order-causal network: laws by enumeration, one pass against many, and its cache."""

import pytest
import torch

from tests.helpers.laws import EXACT, SEVERAL_AT_ONCE, WITHOUT_DENSITY, canvas_of, seeded
from tests.helpers.networks import vocabulary
from tests.helpers.order_causal import Uncached, by_definition, ordered_network
from tests.helpers.sampling import GIVEN, TWO_GAPS, WHOLE, enumerated
from textdiff.samplers import Entropy, LeftToRight, RandomOrder, Strided, path_log_prob, sample, steered
from textdiff.testing import frequencies, iid_noise, total_variation
from textdiff.text import Canvas

ROWS = [WHOLE, TWO_GAPS, [0, 1, 1, None, None, 2, None], GIVEN, [None, 0, 2], [None], [1, None, None, None], TWO_GAPS]
WORDS = vocabulary(3, null=False)
NETWORK = ordered_network(WORDS)


def ragged() -> Canvas:
    """Rows with different gaps and lengths."""
    return Canvas.stack([canvas_of(WORDS, row) for row in ROWS], pad_id=WORDS.pad)


@pytest.mark.parametrize("row", [WHOLE, TWO_GAPS], ids=str)
@pytest.mark.parametrize("policy", EXACT, ids=str)
def test_the_probabilities_of_all_fills_sum_to_one(policy, row):
    _, q = enumerated(NETWORK, canvas_of(WORDS, row), WORDS, policy)
    assert abs(q.sum().item() - 1) < 1e-9


@pytest.mark.parametrize("policy", [*SEVERAL_AT_ONCE, LeftToRight()], ids=str)
def test_a_draw_has_its_own_score_in_one_pass_in_steps_and_without_a_cache(policy):
    canvas = ragged().repeat(3)
    drawn = sample(NETWORK, canvas, WORDS, policy, seeded(5))
    again = sample(Uncached(NETWORK), canvas, WORDS, policy, seeded(5))
    scored = path_log_prob(NETWORK, canvas, WORDS, policy, drawn.tokens, generator=seeded(5))
    assert torch.equal(drawn.tokens, again.tokens)
    torch.testing.assert_close(drawn.log_q, again.log_q, rtol=0, atol=1e-10)
    torch.testing.assert_close(drawn.log_q, scored.log_q, rtol=0, atol=1e-10)
    assert torch.equal(drawn.steps, scored.steps)
    if policy.blind:
        assert scored.nfe.eq(1).all()
    else:
        assert torch.equal(drawn.nfe, scored.nfe)


@pytest.mark.parametrize("policy", [Strided(2), Entropy(2)], ids=str)
def test_a_row_does_not_depend_on_its_neighbours(policy):
    canvas = ragged()
    drawn = sample(NETWORK, canvas, WORDS, policy, torch.arange(len(ROWS)))
    for i, row in enumerate(ROWS):
        alone = sample(NETWORK, canvas_of(WORDS, row), WORDS, policy, torch.tensor([i]))
        assert torch.equal(alone.tokens[0], drawn.tokens[i, : len(row)])
        torch.testing.assert_close(alone.log_q[0], drawn.log_q[i], rtol=0, atol=1e-10)


@pytest.mark.parametrize("policy", [Strided(2), Strided(3), LeftToRight(), Entropy(2)], ids=str)
def test_frequencies_are_those_that_it_states(policy):
    canvas = canvas_of(WORDS, TWO_GAPS)
    tokens, q = enumerated(NETWORK, canvas, WORDS, policy)
    drawn = sample(NETWORK, canvas.repeat(4000), WORDS, policy, seeded(3))
    assert total_variation(frequencies(drawn.tokens, tokens), q) < 1.5 * iid_noise(q, 4000)


@pytest.mark.parametrize("policy", [Strided(2), Strided(4), LeftToRight()], ids=str)
def test_scores_are_those_of_the_definition(policy):
    canvas = canvas_of(WORDS, [0, None, None, 2, None, None, None, 1])
    drawn = sample(NETWORK, canvas, WORDS, policy, seeded(1))
    times = torch.full((8,), -1)
    times[[1, 2]] = torch.arange(2) % getattr(policy, "steps", 9)
    times[[4, 5, 6]] = torch.arange(3) % getattr(policy, "steps", 9)
    if isinstance(policy, LeftToRight):
        times[[4, 5, 6]] += 2
    text = drawn.tokens[0]
    parts = [by_definition(NETWORK, text, times, i)[text[i]] for i in range(8) if times[i] >= 0]
    assert float(drawn.log_q) == pytest.approx(float(sum(parts)), abs=1e-10)


def test_copied_rows_go_on_as_the_originals_would():
    canvas, parents = canvas_of(WORDS, TWO_GAPS).repeat(6), torch.tensor([2, 2, 0, 5, 5, 5])
    steps = []

    def steer(progress):
        steps.append(progress.tokens.clone())
        return parents if len(steps) == 2 else None

    drawn = steered(NETWORK, canvas, WORDS, LeftToRight(), seeded(4), steer)
    scored = path_log_prob(Uncached(NETWORK), canvas, WORDS, LeftToRight(), drawn.tokens)
    assert torch.equal(drawn.tokens[0, :1], steps[1][2, :1])
    torch.testing.assert_close(drawn.log_q, scored.log_q, rtol=0, atol=1e-10)


@pytest.mark.parametrize("policy", WITHOUT_DENSITY, ids=str)
def test_masked_again_leaves_no_mask(policy):
    canvas = ragged()
    drawn = sample(NETWORK, canvas, WORDS, policy, seeded(2))
    assert drawn.log_q is None and not (drawn.tokens == WORDS.mask).any()


@pytest.mark.parametrize("policy", [Strided(2), Entropy()], ids=str)
def test_lengths_and_fills_sum_to_one(policy):
    words = vocabulary(2)
    canvas = canvas_of(words, [0, None, None, None, 1, None], minimum=[1, 0])
    tokens, q = enumerated(ordered_network(words, seed=1), canvas, words, policy)
    unused = tokens[:, 1:4] == words.null
    possible = (unused.int().diff(dim=1) >= 0).all(dim=1) & ~unused[:, 0]
    assert possible.sum() == (2 + 4 + 8) * 3 and abs(q[possible].sum().item() - 1) < 1e-9


def test_gradients_in_one_pass_are_those_of_the_steps():
    canvas = ragged()
    tokens = sample(NETWORK, canvas, WORDS, Strided(2), seeded(5)).tokens

    class Unordered(Uncached):
        """Asked step by step; at each step it works the order out from two steps being all there are."""

        ordered = False

    found = []
    for denoiser in (NETWORK, Unordered(NETWORK)):
        NETWORK.zero_grad()
        path_log_prob(denoiser, canvas, WORDS, Strided(2), tokens).log_q.sum().backward()
        found.append([p.grad.clone() for p in NETWORK.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 10
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_an_order_drawn_at_random_is_scored_in_one_pass():
    canvas = canvas_of(WORDS, TWO_GAPS).repeat(5)
    drawn = sample(NETWORK, canvas, WORDS, RandomOrder(2), seeded(9))
    scored = path_log_prob(NETWORK, canvas, WORDS, RandomOrder(2), drawn.tokens, generator=seeded(9))
    torch.testing.assert_close(drawn.log_q, scored.log_q, rtol=0, atol=1e-10)
    assert scored.nfe.eq(1).all()
