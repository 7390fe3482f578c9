"""The autoregressive prior against enumeration, on a vocabulary small enough to list every fill."""

import pytest
import torch

from tests.helpers.causal_canvases import CANVASES, canvas_of
from tests.helpers.laws import fills, frequencies, iid_noise, seeded, total_variation
from tests.helpers.networks import BOS, CONTENT, EOS, MASK, NULL, PAD, network, vocabulary
from textdiff.priors import AutoregressivePrior
from textdiff.samplers import Tempering
from textdiff.text import Canvas

DRAWS = 4000
VOCABULARY = vocabulary()


@pytest.fixture(scope="module")
def prior():
    return AutoregressivePrior(network(causal=True), None, VOCABULARY)


def enumerated(prior, canvas, **options):
    tokens = fills(canvas, VOCABULARY)
    return tokens, prior.score(canvas.repeat(len(tokens)), tokens, **options).log_q.detach()


def by_hand(prior, canvas, tokens):
    """Log-probability of one fill, token by token, each from a forward pass over the text before it alone."""
    total = -(canvas.maximum - canvas.minimum + 1).double().log().sum()
    for slot in canvas.slots[0].nonzero()[:, 0].tolist():
        if tokens[slot] == NULL:
            continue
        before = tokens[:slot]
        logits = prior.network.logits(before[before != NULL][None])[0, -1]
        never = torch.tensor([PAD, MASK, BOS, EOS, NULL])
        logits = logits.index_fill(0, never, -torch.inf)
        if canvas.word_start[0, slot]:
            logits = logits.masked_fill(~VOCABULARY.starts_word, -torch.inf)
        total = total + logits.log_softmax(0)[tokens[slot]]
    return total


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES)
def test_probabilities_sum_to_one(prior, canvas):
    _, log_q = enumerated(prior, canvas)
    assert abs(float(log_q.exp().sum()) - 1) < 1e-9


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES)
def test_scores_are_those_of_one_token_at_a_time(prior, canvas):
    tokens, log_q = enumerated(prior, canvas)
    possible = log_q.isfinite().nonzero()[:, 0]
    for index in possible[:: max(1, len(possible) // 15)].tolist():
        torch.testing.assert_close(log_q[index], by_hand(prior, canvas, tokens[index]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("temperature, top_p", [(0.5, 1.0), (1.0, 0.6)])
def test_tempered_probabilities_sum_to_one(prior, temperature, top_p):
    canvas = CANVASES["unknown length"]
    _, log_q = enumerated(prior, canvas, tempering=Tempering(temperature, top_p))
    assert abs(float(log_q.exp().sum()) - 1) < 1e-9


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES)
def test_frequencies_match_the_claimed_probabilities(prior, canvas):
    tokens, log_q = enumerated(prior, canvas)
    drawn = prior.sample(canvas.repeat(DRAWS), seeded(5))
    probs = log_q.exp()
    assert total_variation(probs, frequencies(drawn.tokens, tokens)) < 1.5 * iid_noise(probs, DRAWS)


@pytest.mark.parametrize("name", ["unknown length", "perhaps empty", "adjacent gaps"])
def test_lengths_are_uniform(prior, name):
    canvas = CANVASES[name]
    tokens, log_q = enumerated(prior, canvas)
    gaps = range(canvas.minimum.shape[1])
    held = torch.stack([((tokens != NULL) & (canvas.gap == gap)).sum(1) for gap in gaps], dim=1)
    lengths, index = held[log_q.isfinite()].unique(dim=0, return_inverse=True)
    probs = torch.zeros(len(lengths), dtype=torch.float64).index_add(0, index, log_q[log_q.isfinite()].exp())
    choices = (canvas.maximum - canvas.minimum + 1).prod()
    assert len(lengths) == choices
    torch.testing.assert_close(probs, torch.full_like(probs, 1 / choices))


def test_the_suffix_does_not_matter(prior):
    canvas, other = canvas_of(0, 1, None, None, 2, 3, minimum=[1]), canvas_of(0, 1, None, None, 7, 5, minimum=[1])
    assert torch.equal(enumerated(prior, canvas)[1], enumerated(prior, other)[1])
    drawn, again = (prior.sample(c.repeat(50), seeded()).tokens[:, 3:5] for c in (canvas, other))
    assert torch.equal(drawn, again)
    prefix = canvas_of(0, 2, None, None, 2, 3, minimum=[1])
    assert not torch.allclose(enumerated(prior, canvas)[1], enumerated(prior, prefix)[1])


def test_text_between_gaps_matters_to_the_later_gap_alone(prior):
    one, other = (canvas_of(0, None, between, None, 2) for between in (1, 5))
    tokens = torch.tensor([[BOS, 0, 3, 1, 4, 2, EOS]])
    changed = tokens.index_fill(1, torch.tensor(3), 5)
    assert not torch.allclose(prior.score(one, tokens).log_q, prior.score(other, changed).log_q)
    first = canvas_of(0, None, 1, 4, 2), canvas_of(0, None, 5, 4, 2)
    torch.testing.assert_close(*(prior.score(c, x).log_q for c, x in zip(first, (tokens, changed), strict=True)))


def test_forward_passes_are_counted_per_row(prior):
    canvas = Canvas.stack([CANVASES["known length"], CANVASES["two gaps"], CANVASES["perhaps empty"]], PAD).repeat(9)
    drawn = prior.sample(canvas, seeded())
    assert torch.equal(drawn.nfe, (canvas.slots & (drawn.tokens != NULL)).sum(1))
    assert torch.equal(drawn.nfe, drawn.steps)
    assert prior.score(canvas, drawn.tokens).nfe.tolist() == [1] * len(canvas)


def test_a_row_that_begins_with_a_gap_is_an_error(prior):
    canvas = Canvas.of(torch.tensor([[MASK, 1, EOS]]), MASK)
    with pytest.raises(ValueError, match="begins with a gap"):
        prior.sample(canvas, seeded())
    with pytest.raises(ValueError, match="begins with a gap"):
        prior.score(canvas, torch.tensor([[0, 1, EOS]]))


def test_every_content_can_be_drawn_and_nothing_else(prior):
    drawn = prior.sample(CANVASES["known length"].repeat(2000), seeded())
    assert set(drawn.tokens[:, 3].tolist()) <= set(range(CONTENT))


@pytest.mark.slow
def test_compiled_blocks_are_not_compiled_anew_for_every_length():
    net = network(causal=True, num_hidden_layers=10)
    prior, canvas = AutoregressivePrior(net, None, VOCABULARY), CANVASES["two gaps"].repeat(4)
    drawn = prior.sample(canvas, seeded())
    net.compile_blocks()
    torch.compiler.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    again = prior.sample(canvas, seeded())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before
    assert torch.equal(drawn.tokens, again.tokens)


def test_whole_texts_follow_the_joint(prior):
    """All texts of up to two tokens behind bos: an eos ends one, a longer one is cut."""
    texts = [[BOS, EOS, PAD], *([BOS, first, then] for first in range(CONTENT) for then in (*range(CONTENT), EOS))]
    rows = torch.tensor(texts)
    probs = prior.log_prob(rows).detach().exp()
    assert float(probs.sum()) == pytest.approx(1, abs=1e-9)
    drawn = prior.simulate(DRAWS, 3, longest=3)
    assert total_variation(probs, frequencies(drawn, rows)) < 1.5 * iid_noise(probs, DRAWS)


def test_whole_texts_end_with_eos_and_padding(prior):
    drawn = prior.simulate(50, 1, longest=40)
    assert torch.equal(drawn, prior.simulate(50, 1, longest=40)) and drawn.shape[1] <= 40
    assert (drawn[:, 0] == BOS).all() and not torch.isin(drawn[:, 1:], torch.tensor([BOS, MASK, NULL])).any()
    for row in drawn.tolist():
        content = row[: row.index(EOS)] if EOS in row else row
        assert PAD not in content and set(row[len(content) + 1 :]) <= {PAD}
    assert (drawn == EOS).any()
