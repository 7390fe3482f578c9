"""The evidence cache: log-probs are the same with the evidence encoded ahead as without."""

import pytest
import torch

from tests.helpers.networks import CONTENT, MASK, NULL, PAD, network, tokens, vocabulary
from textdiff.denoisers import CachedDenoiser
from textdiff.samplers import Margin, RandomOrder, Strided, path_log_prob, sample
from textdiff.text import Canvas


class Uncached:
    """The same network without `encode_evidence`: each pass computes everything."""

    def __init__(self, net):
        self.log_probs = net.log_probs


def ragged(seed):
    """Rows of several gaps, partly filled and with unused slots, padding, and evidence that rows share."""
    generator = torch.Generator().manual_seed(seed)
    texts = torch.randint(CONTENT, (3, 24), generator=generator)
    observed = torch.rand(3, 24, generator=generator) < 0.6
    texts[1, 17:], observed[1, 17:] = PAD, True
    of = torch.tensor([0, 2, 1, 0, 0, 2])
    canvas, observed = texts[of].clone(), observed[of]
    filled = torch.randint(CONTENT, canvas.shape, generator=generator)
    canvas = torch.where(observed, canvas, filled)
    unused = ~observed & (torch.rand(3, 24, generator=generator) < 0.2)[of]
    wanted = ~observed & ~unused & (torch.rand(canvas.shape, generator=generator) < 0.6)
    return canvas.masked_fill(wanted, MASK).masked_fill(unused, NULL), observed, wanted


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_cached_and_uncached_agree(seed, null):
    net = network()
    canvas, observed, wanted = ragged(seed)
    cache = net.encode_evidence(canvas, observed)
    assert (len(cache.bias), cache.most) == (3, 3)  # one entry for each distinct text
    torch.testing.assert_close(
        net.log_probs(canvas, observed, wanted, null, cache), net.log_probs(canvas, observed, wanted, null)
    )
    for rows in (
        torch.tensor([4, 2, 0, 5]),
        torch.tensor([5, 4, 3, 2, 1, 0]),
        torch.tensor([1]),
        torch.tensor([3, 3, 3, 3, 3, 3, 3, 3]),
    ):
        torch.testing.assert_close(
            net.log_probs(canvas[rows], observed[rows], wanted[rows], null, cache.select(rows)),
            net.log_probs(canvas[rows], observed[rows], wanted[rows], null),
        )


@pytest.mark.parametrize("attention", ["isolated", "full"])
def test_unused_slots_are_left_out(attention):
    """The answer for a text with null is that for the text without it, with encoded evidence and without."""
    net = network(attention=attention)
    canvas, observed, wanted = ragged(3)
    encoded = net.encode_evidence(canvas, observed)
    found = net.log_probs(canvas, observed, wanted, evidence=encoded).split(wanted.sum(dim=1).tolist())
    every = net.log_probs(canvas, observed)
    for row, log_probs in enumerate(found):
        used = canvas[row] != NULL
        alone = net.log_probs(canvas[row : row + 1, used], observed[row : row + 1, used])[0]
        torch.testing.assert_close(log_probs, alone[wanted[row, used]])
        torch.testing.assert_close(every[row, used], alone)
        assert (every[row, ~used].argmax(dim=1) == NULL).all() and (every[row, ~used].exp().sum(dim=1) == 1).all()
    assert (canvas == NULL).any(dim=1).sum() > 3


def test_gaps_of_different_lengths_move_the_evidence_after_them():
    net = network()
    text = torch.tensor([[3, 1, MASK, MASK, 2, 5, 1], [3, 1, MASK, NULL, 2, 5, 1]])
    observed = (text != MASK) & (text != NULL)
    observed[:, 2:4] = False
    cached, wanted = CachedDenoiser(net, text, observed), text == MASK
    for rows in (torch.tensor([0, 1]), torch.tensor([1, 1, 0]), torch.tensor([1])):
        chosen = cached.select(rows)
        log_probs = chosen.log_probs(torch.arange(len(rows)), text[rows], wanted[rows])
        torch.testing.assert_close(log_probs, net.log_probs(text[rows], observed[rows], wanted[rows]))


def test_a_row_may_be_all_gap():
    net = network()
    canvas, observed = torch.full((2, 5), MASK), torch.zeros(2, 5, dtype=torch.bool)
    assert net.encode_evidence(canvas, observed) is None
    canvas[1, 2], observed[1, 2] = 3, True
    cache = net.encode_evidence(canvas, observed)
    torch.testing.assert_close(
        net.log_probs(canvas, observed, ~observed, False, cache), net.log_probs(canvas, observed, ~observed)
    )


def test_evidence_that_attends_to_gaps_is_not_encoded_ahead():
    canvas, observed, _ = ragged(0)
    assert network(attention="full").encode_evidence(canvas, observed) is None
    assert network(causal=True).encode_evidence(canvas, observed) is None


def test_gradients_pass_through_it():
    net = network()
    canvas, observed, wanted = ragged(1)
    gradients = []
    for denoiser in (net, Uncached(net)):
        cached = CachedDenoiser(denoiser, canvas, observed)
        log_probs = cached.log_probs(torch.arange(len(canvas)), canvas, wanted)
        net.zero_grad()
        log_probs[:, :CONTENT].sum().backward()
        gradients.append([parameter.grad.clone() for parameter in net.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("policy", [Strided(3), Margin(4), RandomOrder(2)], ids=str)
def test_samplers_draw_and_score_the_same(policy):
    net, v = network(), vocabulary()
    text = tokens(1, 20)
    text[:, 3:8] = text[:, 12:16] = MASK
    canvas = Canvas.of(text, MASK).repeat(6)
    canvas.minimum[:, 0] = 2  # the first gap's length is open
    found = [sample(denoiser, canvas, v, policy, torch.Generator().manual_seed(5)) for denoiser in (net, Uncached(net))]
    torch.testing.assert_close(found[0].tokens, found[1].tokens)
    torch.testing.assert_close(found[0].log_q, found[1].log_q)
    scored = path_log_prob(net, canvas, v, policy, found[0].tokens, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(scored.log_q, found[0].log_q)
