"""The denoising loop: the distribution of its draws, independent rows, the queries to the denoiser, watching."""

import pytest
import torch

from tests.helpers.any_order import any_order_log_prob
from tests.helpers.laws import (
    ONE_BY_ONE,
    SEVERAL_AT_ONCE,
    WITHOUT_DENSITY,
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
    distance_to_posterior,
    enumerated,
    noise_of_iid_draws,
    ragged,
)
from textdiff.errors import UserError
from textdiff.samplers import (
    Dilated,
    Entropy,
    EntropyBounded,
    LeftToRight,
    LogProbKind,
    RandomOrder,
    SampledConfidence,
    Strided,
    Tempering,
    Threshold,
    path_log_prob,
    sample,
)
from textdiff.testing import enumerate_fills, frequencies, iid_noise, total_variation
from textdiff.testing.tables import TableDenoiser
from textdiff.text import Canvas


@pytest.mark.parametrize("row", [WHOLE, GIVEN], ids=str)
@pytest.mark.parametrize("policy", ONE_BY_ONE, ids=str)
def test_one_token_per_step_draws_from_the_posterior(policy, row):
    assert distance_to_posterior(policy, row) < 1.5 * noise_of_iid_draws(tuple(row))


def test_sampled_confidence_is_not_posterior_sampling():
    # A perfect denoiser, one token per step, and still far off: this is why its kind is NONE.
    assert distance_to_posterior(SampledConfidence(), WHOLE) > 5 * noise_of_iid_draws(tuple(WHOLE))


@pytest.mark.parametrize("policy", [Strided(2), Dilated(), Entropy(2), EntropyBounded(1.0), Threshold(0.45)], ids=str)
@pytest.mark.parametrize("null", [False, True], ids=["plain", "null"])
def test_frequencies_match_the_claimed_probabilities(policy, null):
    vocabulary, denoiser = NULLABLE if null else PLAIN, TableDenoiser(3, 4, seed=1, null=null)
    canvas = canvas_of(vocabulary, WHOLE, minimum=[1] if null else None)
    tokens, q = enumerated(denoiser, canvas, vocabulary, policy)
    drawn = sample(denoiser, canvas.repeat(DRAWS), vocabulary, policy, seeded(3))
    assert total_variation(q, frequencies(drawn.tokens, tokens)) < 1.5 * iid_noise(q, DRAWS)


def test_random_order_draws_from_the_mixture_over_orders():
    denoiser, canvas = TableDenoiser(3, 4, seed=1), canvas_of(PLAIN, WHOLE)
    tokens = enumerate_fills(canvas, PLAIN)
    probs = any_order_log_prob(denoiser, tokens, canvas.observed[0], PLAIN.mask).exp()
    drawn = sample(denoiser, canvas.repeat(DRAWS), PLAIN, RandomOrder(), seeded(7))
    assert total_variation(probs, frequencies(drawn.tokens, tokens)) < 1.5 * iid_noise(probs, DRAWS)


@pytest.mark.parametrize("policy", WITHOUT_DENSITY, ids=str)
def test_a_policy_without_probabilities_gives_none(policy):
    canvas = canvas_of(PLAIN, WHOLE).repeat(3)
    drawn = sample(TableDenoiser(3, 4), canvas, PLAIN, policy, seeded())
    assert drawn.kind is LogProbKind.NONE
    assert drawn.log_q is None
    with pytest.raises(UserError, match=f"{type(policy).__name__} has no log-probability") as error:
        path_log_prob(TableDenoiser(3, 4), canvas, PLAIN, policy, drawn.tokens)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("policy", WITHOUT_DENSITY, ids=str)
@pytest.mark.parametrize("null", [False, True], ids=["plain", "null"])
def test_only_what_was_filled_is_masked_again(policy, null):
    vocabulary, denoiser, canvas = ragged(null)
    still_masked, seen, again = canvas.slots.clone(), canvas.tokens, 0

    def watch(tokens, revealed):
        nonlocal still_masked, seen, again
        hidden = (tokens == vocabulary.mask) & ~still_masked
        assert not (hidden & ~canvas.slots).any() and not (hidden & (seen == vocabulary.null)).any()
        assert (revealed <= still_masked).all()
        still = ~revealed & ~hidden
        assert torch.equal(tokens[still], seen[still])
        still_masked, seen, again = still_masked & ~revealed | hidden, tokens, again + int(hidden.sum())
        assert torch.equal(tokens == vocabulary.mask, still_masked)

    drawn = sample(denoiser, canvas, vocabulary, policy, seeded(2), watch=watch)
    assert torch.equal(drawn.tokens, seen) and not still_masked.any()
    assert (again > 0) == (not isinstance(policy, SampledConfidence))
    assert torch.equal(drawn.tokens[~canvas.slots], canvas.tokens[~canvas.slots])


@pytest.mark.parametrize("null", [False, True], ids=["plain", "null"])
def test_words_start_where_they_must(null):
    vocabulary = NULLABLE if null else PLAIN
    canvas = canvas_of(vocabulary, TWO_GAPS, minimum=[1, 0] if null else None, word_start=[0, 3])
    tokens, q = enumerated(TableDenoiser(3, 4, null=null), canvas, vocabulary, Entropy(2))
    assert abs(float(q.sum()) - 1) < 1e-9
    starts = tokens[q > 0][:, [0, 3]]
    assert (vocabulary.starts_word[starts] | (starts == vocabulary.null if null else False)).all()
    assert set(starts.flatten().tolist()) == ({0, NULLABLE.null} if null else {0, 2})


def test_top_p_near_zero_is_greedy():
    canvas = canvas_of(PLAIN, WHOLE).repeat(50)
    drawn = sample(TableDenoiser(3, 4), canvas, PLAIN, Entropy(2), seeded(), tempering=Tempering(top_p=1e-9))
    assert len(drawn.tokens.unique(dim=0)) == 1
    assert (drawn.log_q == 0).all()


@pytest.mark.parametrize("policy", [*SEVERAL_AT_ONCE, LeftToRight(), RandomOrder(), *WITHOUT_DENSITY], ids=str)
@pytest.mark.parametrize("null", [False, True], ids=["plain", "null"])
def test_rows_do_not_depend_on_other_rows_or_padding(policy, null):
    vocabulary, denoiser, canvas = ragged(null)
    batch = sample(denoiser, canvas, vocabulary, policy, seeded(9))
    generator = seeded(9)
    alone = [sample(denoiser, canvas.select([row]), vocabulary, policy, generator) for row in range(len(canvas))]
    beside = torch.zeros(1, 9, dtype=torch.long)
    wider = Canvas.stack([canvas, Canvas.of(beside, vocabulary.mask)], pad_id=0)
    padded = sample(denoiser, wider, vocabulary, policy, seeded(9))
    assert torch.equal(torch.cat([one.tokens for one in alone]), batch.tokens)
    assert torch.equal(padded.tokens[:-1, : canvas.tokens.shape[1]], batch.tokens)
    assert torch.equal(padded.tokens[:, canvas.tokens.shape[1] :], torch.zeros(len(wider), 5, dtype=torch.long))
    assert torch.equal(torch.cat([one.steps for one in alone]), batch.steps)
    if batch.log_q is not None:
        for other in (torch.cat([one.log_q for one in alone]), padded.log_q[:-1]):
            assert torch.allclose(other, batch.log_q, rtol=0, atol=1e-12)


def test_copies_of_a_row_draw_differently_and_seeds_repeat():
    canvas = canvas_of(PLAIN, WHOLE).repeat(100)
    first, again, other = (sample(TableDenoiser(3, 4), canvas, PLAIN, Strided(2), seeded(s)).tokens for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique(dim=0)) > 20


class Counting:
    """A denoiser that records the size of each query."""

    def __init__(self, denoiser):
        self.denoiser, self.asked = denoiser, []

    def log_probs(self, canvas, observed, where=None, null=False):
        assert where.any(dim=1).all(), "a finished row is still in the batch"
        assert not (where & observed).any()
        self.asked.append((len(canvas), int(where.sum())))
        return self.denoiser.log_probs(canvas, observed, where, null)


@pytest.mark.parametrize("policy", [LeftToRight(), Entropy()], ids=str)
def test_only_unfinished_rows_and_slots_that_matter_are_queried(policy):
    # A policy that uses log-probs needs those of all masked slots, a blind one those of the slots that it reveals.
    _, denoiser, canvas = ragged(null=False)
    counting = Counting(denoiser)
    drawn = sample(counting, canvas, PLAIN, policy, seeded())
    left = (canvas.slots.sum(dim=1) - torch.arange(4)[:, None]).clamp(min=0)  # one slot less in each step
    asked = [(int((step > 0).sum()), int((step > 0).sum() if policy.blind else step.sum())) for step in left]
    assert counting.asked[1:] == asked[1:]
    different = canvas.tokens[canvas.slots.any(dim=1)].unique(
        dim=0
    )  # what is alike before anything is drawn is asked once
    first = (different == PLAIN.mask).sum(dim=1)
    assert counting.asked[0] == (len(different), len(different) if policy.blind else int(first.sum()))
    assert len(different) < len(canvas)
    assert torch.equal(drawn.nfe, canvas.slots.sum(dim=1))
    assert torch.equal(drawn.nfe, drawn.steps)


@pytest.mark.parametrize("null", [False, True], ids=["plain", "null"])
def test_watching(null):
    vocabulary, denoiser, canvas = ragged(null)
    seen = []

    def watch(tokens, revealed):
        seen.append((tokens, revealed))

    drawn = sample(denoiser, canvas, vocabulary, Entropy(2), seeded(), watch=watch)
    assert torch.equal(sum(revealed.long() for _, revealed in seen), canvas.slots.long())
    hidden = canvas.slots
    for tokens, revealed in seen:
        hidden = hidden & ~revealed
        assert torch.equal(tokens == vocabulary.mask, hidden)
        assert torch.equal(tokens[~hidden], drawn.tokens[~hidden])


def test_nothing_to_fill():
    canvas = canvas_of(PLAIN, [0, 1, 2]).repeat(2)
    drawn = sample(TableDenoiser(3, 3), canvas, PLAIN, Strided(), seeded())
    assert torch.equal(drawn.tokens, canvas.tokens)
    assert drawn.log_q.tolist() == [0.0, 0.0]
    assert drawn.nfe.tolist() == drawn.steps.tolist() == [0, 0]


class Impossible:
    """A denoiser that gives every token probability zero."""

    def log_probs(self, canvas, observed, where=None, null=False):
        return torch.full((int(where.sum()), PLAIN.size), -torch.inf)


def test_a_slot_without_an_allowed_token_is_an_error():
    with pytest.raises(ValueError, match="no allowed token"):
        sample(Impossible(), canvas_of(PLAIN, WHOLE), PLAIN, Strided(), seeded())
