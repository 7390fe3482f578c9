"""Fill-in-the-middle against enumeration, on a vocabulary small enough to list every fill."""

import pytest
import torch

from tests.helpers.causal_canvases import CANVASES, canvas_of
from tests.helpers.laws import fills, frequencies, iid_noise, seeded, total_variation
from tests.helpers.networks import BOS, CONTENT, EOS, MASK, NULL, PAD, network, vocabulary
from textdiff.errors import UserError
from textdiff.priors import AutoregressivePrior, FillInMiddlePrior
from textdiff.samplers import Tempering
from textdiff.text import Canvas
from textdiff.text.fill_in_middle import GAP_POSITIONS

DRAWS = 4000
VOCABULARY = vocabulary()
NETWORK = network(causal=True, fill_in_middle=True)


@pytest.fixture(scope="module", params=["psm", "spm"])
def prior(request):
    return FillInMiddlePrior(NETWORK, None, VOCABULARY, request.param)


def enumerated(prior, canvas, **options):
    tokens = fills(canvas, VOCABULARY)
    return tokens, prior.score(canvas.repeat(len(tokens)), tokens, **options).log_q.detach()


def by_hand(prior, canvas, tokens):
    """Log-probability of one fill: each token and each end by a pass over all that stands before it."""
    row, gap = tokens.tolist(), canvas.gap[0].tolist()
    marked, places, starts, place = [], [], [], 0
    for i, (token, number) in enumerate(zip(row, gap, strict=True)):
        if number < 0:
            marked.append(token)
            places.append(place)
            place += 1
        elif i == 0 or gap[i - 1] != number:
            marked.append(MASK)
            places.append(place)
            starts.append(place)
            place += GAP_POSITIONS
    if prior.layout == "spm" and canvas.minimum.shape[1] == 1:
        cut = marked.index(MASK)
        marked, places = ([*both[cut:], *both[:cut]] for both in (marked, places))
    total = torch.zeros((), dtype=torch.float64)
    for number in range(canvas.minimum.shape[1]):
        slots = [i for i, where in enumerate(gap) if where == number]
        least, most = int(canvas.minimum[0, number]), len(slots)
        middle = [row[i] for i in slots if row[i] != NULL]
        marked.append(MASK)
        places.append(starts[number] - 1)
        for rank, token in enumerate([*middle, EOS]):
            if rank < most:
                logits = prior.network.logits(torch.tensor([marked]), positions=torch.tensor([places]))[0, -1]
                never = [PAD, MASK, BOS, NULL, *([EOS] if rank < least else [])]
                logits = logits.index_fill(0, torch.tensor(never), -torch.inf)
                if canvas.word_start[0, slots[rank]]:
                    stays = VOCABULARY.starts_word.clone()
                    stays[EOS] = True
                    logits = logits.masked_fill(~stays, -torch.inf)
                total = total + logits.log_softmax(0)[token]
            marked.append(token)
            places.append(starts[number] + rank)
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


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES)
def test_frequencies_match_the_claimed_probabilities(prior, canvas):
    tokens, log_q = enumerated(prior, canvas)
    drawn = prior.sample(canvas.repeat(DRAWS), seeded(5))
    probs = log_q.exp()
    assert total_variation(probs, frequencies(drawn.tokens, tokens)) < 1.5 * iid_noise(probs, DRAWS)


def test_tempered_probabilities_sum_to_one(prior):
    _, log_q = enumerated(prior, CANVASES["unknown length"], tempering=Tempering(0.7, 0.8, 5))
    assert abs(float(log_q.exp().sum()) - 1) < 1e-9


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES)
def test_a_sample_knows_its_own_probability_in_any_batch(prior, canvas):
    others = Canvas.stack([canvas, *CANVASES.values()], PAD).repeat(5)
    drawn = prior.sample(others, seeded(2))
    torch.testing.assert_close(drawn.log_q, prior.score(others, drawn.tokens).log_q)
    alone = prior.score(canvas.repeat(5), drawn.tokens[:5, : canvas.tokens.shape[1]])
    torch.testing.assert_close(drawn.log_q[:5], alone.log_q)
    assert (drawn.tokens != MASK).all()


def test_both_sides_of_a_gap_matter(prior):
    known = canvas_of(0, 1, None, None, 2, 3, minimum=[1])
    for other in (canvas_of(0, 1, None, None, 7, 3, minimum=[1]), canvas_of(0, 2, None, None, 2, 3, minimum=[1])):
        assert not torch.allclose(enumerated(prior, known)[1], enumerated(prior, other)[1])


def test_the_layouts_differ_for_one_gap_and_agree_for_several():
    psm, spm = (FillInMiddlePrior(NETWORK, None, VOCABULARY).with_layout(layout) for layout in ("psm", "spm"))
    one, two = CANVASES["known length"], CANVASES["two gaps"]
    assert not torch.allclose(enumerated(psm, one)[1], enumerated(spm, one)[1])
    assert torch.equal(enumerated(psm, two)[1], enumerated(spm, two)[1])
    with pytest.raises(UserError, match="layout is 'mps', expected one of psm, spm"):
        FillInMiddlePrior(NETWORK, None, VOCABULARY, "mps")


def test_a_forward_pass_for_each_token_and_each_end_that_is_drawn(prior):
    canvas = Canvas.stack([CANVASES["known length"], CANVASES["two gaps"], CANVASES["perhaps empty"]], PAD).repeat(9)
    drawn = prior.sample(canvas, seeded())
    held = torch.stack([((drawn.tokens != NULL) & (canvas.gap == gap)).sum(1) for gap in (0, 1)], dim=1)
    assert torch.equal(drawn.nfe, (held + (held < canvas.maximum)).sum(1))


def test_every_content_can_be_drawn_and_nothing_else(prior):
    drawn = prior.sample(CANVASES["known length"].repeat(2000), seeded())
    assert set(drawn.tokens[:, 3].tolist()) <= set(range(CONTENT))


def test_a_text_that_the_marks_make_too_long_is_refused(prior):
    small = FillInMiddlePrior(
        network(causal=True, fill_in_middle=True, max_position_embeddings=9), None, VOCABULARY, prior.layout
    )
    canvas = CANVASES["known length"]
    small.sample(canvas_of(0, None, None, 2), seeded())
    with pytest.raises(UserError, match="takes 10 tokens once its gaps are marked, and the model reads at most 9"):
        small.sample(canvas, seeded())


def test_it_has_no_policies(prior):
    with pytest.raises(UserError, match="leave out policy and steps"):
        prior.with_policy("strided")


def test_without_the_suffix_it_is_an_autoregressive_prior(prior):
    canvas = CANVASES["known length"]
    prefix_only = prior.prefix_only()
    assert isinstance(prefix_only, AutoregressivePrior) and prefix_only.network is prior.network
    tokens = fills(canvas, VOCABULARY)
    torch.testing.assert_close(
        prefix_only.score(canvas.repeat(len(tokens)), tokens).log_q,
        AutoregressivePrior(NETWORK, None, VOCABULARY).score(canvas.repeat(len(tokens)), tokens).log_q,
    )
