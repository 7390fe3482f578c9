"""The laws of the denoising loop, against denoisers that are known exactly."""

from functools import cache

import pytest
import torch

from tests.helpers.any_order import any_order_log_prob
from tests.helpers.laws import (
    EXACT,
    ONE_BY_ONE,
    SEVERAL_AT_ONCE,
    WITHOUT_DENSITY,
    canvas_of,
    fills,
    frequencies,
    iid_noise,
    seeded,
    total_variation,
)
from tests.helpers.oracle import TableDenoiser, TableOracle, order_log_probs
from textdiff.errors import UserError
from textdiff.samplers import (
    Blocks,
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
from textdiff.text import Canvas, Vocabulary

PLAIN, NULLABLE = Vocabulary.toy(3), Vocabulary.toy(2, null=True)
WHOLE = [None] * 4  # one gap, nothing observed
GIVEN = [None, None, None, 1]
TWO_GAPS = [None, None, 1, None]
DRAWS = 6000


def score(denoiser, canvas, vocabulary, policy, tokens, **options):
    return path_log_prob(denoiser, canvas.repeat(len(tokens)), vocabulary, policy, tokens, **options).log_q


def enumerated(denoiser, canvas, vocabulary, policy, **options):
    """Every fill and its claimed probability."""
    tokens = fills(canvas, vocabulary)
    return tokens, score(denoiser, canvas, vocabulary, policy, tokens, **options).exp()


@cache
def noise_of_iid_draws(row):
    canvas = canvas_of(Vocabulary.toy(4), row)
    return iid_noise(TableOracle.random(4, 4, sharpness=1.5).posterior(canvas.tokens)[0], DRAWS)


def distance_to_posterior(policy, row, steps=None):
    vocabulary, oracle = Vocabulary.toy(4), TableOracle.random(4, 4, sharpness=1.5)
    canvas = canvas_of(vocabulary, row)
    drawn = sample(oracle, canvas.repeat(DRAWS), vocabulary, policy, seeded(1))
    assert set(drawn.steps.tolist()) == {steps or row.count(None)}, "not one token per step"
    return total_variation(oracle.posterior(canvas.tokens)[0], frequencies(drawn.tokens, oracle.outcomes))


@pytest.mark.parametrize("row", [WHOLE, GIVEN], ids=str)
@pytest.mark.parametrize("policy", ONE_BY_ONE, ids=str)
def test_one_token_per_step_draws_from_the_posterior(policy, row):
    assert distance_to_posterior(policy, row) < 1.5 * noise_of_iid_draws(tuple(row))


def test_sampled_confidence_is_not_posterior_sampling():
    # A perfect denoiser, one token per step, and still far off: this is why its kind is NONE.
    assert distance_to_posterior(SampledConfidence(), WHOLE) > 5 * noise_of_iid_draws(tuple(WHOLE))


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


@pytest.mark.parametrize("policy", [Strided(2), Dilated(), Entropy(2), EntropyBounded(1.0), Threshold(0.45)], ids=str)
@pytest.mark.parametrize("null", [False, True], ids=["plain", "null"])
def test_frequencies_match_the_claimed_probabilities(policy, null):
    vocabulary, denoiser = NULLABLE if null else PLAIN, TableDenoiser(3, 4, seed=1, null=null)
    canvas = canvas_of(vocabulary, WHOLE, minimum=[1] if null else None)
    tokens, q = enumerated(denoiser, canvas, vocabulary, policy)
    drawn = sample(denoiser, canvas.repeat(DRAWS), vocabulary, policy, seeded(3))
    assert total_variation(q, frequencies(drawn.tokens, tokens)) < 1.5 * iid_noise(q, DRAWS)


def test_random_order_sums_to_one_given_each_order():
    denoiser, canvas = TableDenoiser(3, 4, seed=1), canvas_of(PLAIN, TWO_GAPS)
    for policy in (RandomOrder(), RandomOrder(2)):
        for seed in range(3):
            total = 0.0
            for text in fills(canvas, PLAIN):  # one row at a time, so that all go in the same order
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


def test_random_order_draws_from_the_mixture_over_orders():
    denoiser, canvas = TableDenoiser(3, 4, seed=1), canvas_of(PLAIN, WHOLE)
    tokens = fills(canvas, PLAIN)
    law = any_order_log_prob(denoiser, tokens, canvas.observed[0], PLAIN.mask).exp()
    drawn = sample(denoiser, canvas.repeat(DRAWS), PLAIN, RandomOrder(), seeded(7))
    assert total_variation(law, frequencies(drawn.tokens, tokens)) < 1.5 * iid_noise(law, DRAWS)


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
    open_, seen, again = canvas.slots.clone(), canvas.tokens, 0

    def watch(tokens, revealed):
        nonlocal open_, seen, again
        hidden = (tokens == vocabulary.mask) & ~open_
        assert not (hidden & ~canvas.slots).any() and not (hidden & (seen == vocabulary.null)).any()
        assert (revealed <= open_).all()
        still = ~revealed & ~hidden
        assert torch.equal(tokens[still], seen[still])
        open_, seen, again = open_ & ~revealed | hidden, tokens, again + int(hidden.sum())
        assert torch.equal(tokens == vocabulary.mask, open_)

    drawn = sample(denoiser, canvas, vocabulary, policy, seeded(2), watch=watch)
    assert torch.equal(drawn.tokens, seen) and not open_.any()
    assert (again > 0) == (not isinstance(policy, SampledConfidence))
    assert torch.equal(drawn.tokens[~canvas.slots], canvas.tokens[~canvas.slots])


@pytest.mark.parametrize(
    "row, minimum", [(WHOLE, [0]), (WHOLE, [2]), (WHOLE, [4]), (TWO_GAPS, [1, 0]), (TWO_GAPS, [2, 1])]
)
@pytest.mark.parametrize(
    "policy", [LeftToRight(), Strided(2), Dilated(), Entropy(2), EntropyBounded(1.0), Blocks(Strided(1), 2)], ids=str
)
def test_unknown_lengths(policy, row, minimum):
    denoiser, canvas = TableDenoiser(3, 4, seed=4, null=True), canvas_of(NULLABLE, row, minimum)
    tokens, q = enumerated(denoiser, canvas, NULLABLE, policy)
    assert abs(float(q.sum()) - 1) < 1e-9
    for text, probability in zip(tokens, q, strict=True):
        lawful = True
        for gap, least in enumerate(minimum):
            held = (text[canvas.gap[0] == gap] != NULLABLE.null).tolist()
            lawful &= held == sorted(held, reverse=True) and sum(held) >= least
        assert (probability > 0) == lawful
    drawn = sample(denoiser, canvas.repeat(500), NULLABLE, policy, seeded())
    assert (score(denoiser, canvas, NULLABLE, policy, drawn.tokens) > -torch.inf).all()
    unknown = minimum != canvas.maximum[0].tolist()
    assert torch.equal(drawn.nfe, drawn.steps + unknown)


def test_a_lengths_law_with_one_open_gap_is_the_oracles():
    # With one slot in doubt, its null marginal is the posterior of the length, and the posterior is reproduced.
    oracle, canvas = TableOracle.random(3, 4, null=True), canvas_of(NULLABLE, [0, 1, None, 1], minimum=[0])
    tokens, q = enumerated(oracle, canvas, NULLABLE, Entropy())
    assert torch.allclose(q.log(), oracle.log_prob(tokens) - oracle.log_prob(canvas.tokens))


def test_unknown_lengths_need_a_null_token():
    canvas = canvas_of(PLAIN, WHOLE, minimum=[1])
    with pytest.raises(UserError, match="no null token"):
        sample(TableDenoiser(3, 4), canvas, PLAIN, Strided(), seeded())


@pytest.mark.parametrize("null", [False, True], ids=["plain", "null"])
def test_words_start_where_they_must(null):
    vocabulary = NULLABLE if null else PLAIN
    canvas = canvas_of(vocabulary, TWO_GAPS, minimum=[1, 0] if null else None, word_start=[0, 3])
    tokens, q = enumerated(TableDenoiser(3, 4, null=null), canvas, vocabulary, Entropy(2))
    assert abs(float(q.sum()) - 1) < 1e-9
    starts = tokens[q > 0][:, [0, 3]]
    assert (vocabulary.starts_word[starts] | (starts == vocabulary.null if null else False)).all()
    assert set(starts.flatten().tolist()) == ({0, NULLABLE.null} if null else {0, 2})


@pytest.mark.parametrize("temperature, top_p", [(0.5, 1.0), (2.0, 1.0), (1.0, 0.7), (0.7, 0.8)])
@pytest.mark.parametrize("policy", [LeftToRight(), Strided(2), Entropy(2), Threshold(0.45)], ids=str)
def test_the_probability_is_that_of_the_tempered_law(policy, temperature, top_p):
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
        law = Tempering(0.6, 0.95)(denoiser.log_probs(shown, canvas.observed)[:, position])
        expected += float(law[0, text[0, position]])
        shown[0, position] = text[0, position]
    found = score(denoiser, canvas, PLAIN, LeftToRight(), text, tempering=Tempering(0.6, 0.95))
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_top_p_near_zero_is_greedy():
    canvas = canvas_of(PLAIN, WHOLE).repeat(50)
    drawn = sample(TableDenoiser(3, 4), canvas, PLAIN, Entropy(2), seeded(), tempering=Tempering(top_p=1e-9))
    assert len(drawn.tokens.unique(dim=0)) == 1
    assert (drawn.log_q == 0).all()


def ragged(null):
    """Rows with different gaps, evidence and lengths, one of them complete; padded with id 0."""
    vocabulary = NULLABLE if null else PLAIN
    rows = [WHOLE, TWO_GAPS, [0, 1, 1], GIVEN, [None, 0], [None], [1, None, None, None], TWO_GAPS, [None, 1, None, 0]]
    minimum = [[1], [1, 0], [], [3], [0], [1], [0], [0, 0], [1, 0]] if null else [None] * len(rows)
    canvases = [canvas_of(vocabulary, row, least) for row, least in zip(rows, minimum, strict=True)]
    return vocabulary, TableDenoiser(3, 4, seed=6, null=null), Canvas.stack(canvases, pad_id=0)


@pytest.mark.parametrize("policy", [*SEVERAL_AT_ONCE, LeftToRight(), RandomOrder(), *WITHOUT_DENSITY], ids=str)
@pytest.mark.parametrize("null", [False, True], ids=["plain", "null"])
def test_rows_do_not_feel_batch_mates_or_padding(policy, null):
    vocabulary, denoiser, canvas = ragged(null)
    together = sample(denoiser, canvas, vocabulary, policy, seeded(9))
    generator = seeded(9)
    alone = [sample(denoiser, canvas.select([row]), vocabulary, policy, generator) for row in range(len(canvas))]
    beside = torch.zeros(1, 9, dtype=torch.long)
    wider = Canvas.stack([canvas, Canvas.of(beside, vocabulary.mask)], pad_id=0)
    padded = sample(denoiser, wider, vocabulary, policy, seeded(9))
    assert torch.equal(torch.cat([one.tokens for one in alone]), together.tokens)
    assert torch.equal(padded.tokens[:-1, : canvas.tokens.shape[1]], together.tokens)
    assert torch.equal(padded.tokens[:, canvas.tokens.shape[1] :], torch.zeros(len(wider), 5, dtype=torch.long))
    assert torch.equal(torch.cat([one.steps for one in alone]), together.steps)
    if together.log_q is not None:
        for other in (torch.cat([one.log_q for one in alone]), padded.log_q[:-1]):
            assert torch.allclose(other, together.log_q, rtol=0, atol=1e-12)


def test_copies_of_a_row_draw_differently_and_seeds_repeat():
    canvas = canvas_of(PLAIN, WHOLE).repeat(100)
    first, again, other = (sample(TableDenoiser(3, 4), canvas, PLAIN, Strided(2), seeded(s)).tokens for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique(dim=0)) > 20


class Counting:
    """A denoiser that notes the size of each question."""

    def __init__(self, denoiser):
        self.denoiser, self.asked = denoiser, []

    def log_probs(self, canvas, observed, where=None, null=False):
        assert where.any(dim=1).all(), "a finished row is still in the batch"
        assert not (where & observed).any()
        self.asked.append((len(canvas), int(where.sum())))
        return self.denoiser.log_probs(canvas, observed, where, null)


@pytest.mark.parametrize("policy", [LeftToRight(), Entropy()], ids=str)
def test_only_unfinished_rows_and_slots_that_matter_are_asked(policy):
    # A policy that looks at the answers needs those of all masked slots, one that is blind of those that it reveals.
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


class Asked:
    """A denoiser that notes whether null may be an answer, and how many slots it is asked for."""

    def __init__(self, denoiser):
        self.denoiser, self.calls = denoiser, []

    def log_probs(self, canvas, observed, where=None, null=False):
        self.calls.append((null, int(where.sum())))
        return self.denoiser.log_probs(canvas, observed, where, null)


def test_null_is_an_answer_only_when_lengths_are_drawn():
    denoiser = Asked(TableDenoiser(3, 4, seed=1, null=True))
    sample(denoiser, canvas_of(NULLABLE, WHOLE, minimum=[4]), NULLABLE, Entropy(2), seeded())
    assert denoiser.calls == [(False, 4), (False, 2)]
    denoiser.calls.clear()
    sample(denoiser, canvas_of(NULLABLE, WHOLE, minimum=[3]), NULLABLE, Strided(1), seeded())
    assert [null for null, _ in denoiser.calls] == [True, False]
    assert denoiser.calls[0] == (True, 4)


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


@pytest.mark.parametrize("policy", [LeftToRight(), Strided(2), Entropy(2)], ids=str)
def test_scores_can_be_differentiated(policy):
    denoiser = TableDenoiser(3, 4, seed=1, null=True)
    logits = denoiser._table.requires_grad_()
    canvas = canvas_of(NULLABLE, WHOLE, minimum=[1])
    tokens = fills(canvas, NULLABLE)
    lawful = score(denoiser, canvas, NULLABLE, policy, tokens).isfinite()
    log_q = score(denoiser, canvas, NULLABLE, policy, tokens[lawful])
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


class Mute:
    """A denoiser that gives every token probability zero."""

    def log_probs(self, canvas, observed, where=None, null=False):
        return torch.full((int(where.sum()), PLAIN.size), -torch.inf)


def test_a_slot_without_an_allowed_token_is_an_error():
    with pytest.raises(ValueError, match="no allowed token"):
        sample(Mute(), canvas_of(PLAIN, WHOLE), PLAIN, Strided(), seeded())


def test_a_minimum_above_the_slots_is_an_error():
    with pytest.raises(ValueError, match="minimum is above"):
        sample(TableDenoiser(3, 4, null=True), canvas_of(NULLABLE, WHOLE, minimum=[5]), NULLABLE, Strided(), seeded())
