"""Gaps in the order of a policy, for order-causal networks."""

from dataclasses import replace

import numpy as np
import pytest

from textdiff import samplers
from textdiff.data import LineGaps, Mixture, PositionJumps, RandomMasks, SentenceGaps, SpanGaps, WholeTexts
from textdiff.data.rows import corrupt_row
from textdiff.errors import UserError
from textdiff.samplers import Blocks, Dilated, Entropy, RandomOrder, Strided, reveal_times
from textdiff.text import Vocabulary

WORDS = Vocabulary.toy(40, null=True)
TEXT = np.arange(200) % 40


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("policy", "size", "times"),
    [
        (Strided(3), 7, [0, 1, 2, 0, 1, 2, 0]),
        (Strided(8), 3, [0, 1, 2]),
        (samplers.LeftToRight(), 4, [0, 1, 2, 3]),
        (Dilated(), 7, [2, 1, 2, 0, 2, 1, 2]),
        (Blocks(Strided(2), 3), 7, [0, 1, 0, 2, 3, 2, 4]),
    ],
    ids=str,
)
def test_the_order_of_a_policy_is_known_in_advance(policy, size, times):
    assert reveal_times(policy, size).tolist() == times


@pytest.mark.parametrize("policy", [Entropy(), RandomOrder(4)], ids=str)
def test_an_order_that_depends_on_answers_or_chance_is_refused(policy):
    with pytest.raises(UserError, match="no order that is known in advance"):
        SpanGaps(orders=(policy,))


def runs(times):
    """The gaps of a row, as arrays of times."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], times >= 0, [False])).astype(int)))
    return [times[a:b] for a, b in edges.reshape(-1, 2)]


def test_all_tokens_of_gaps_are_scored_in_the_order_of_a_policy():
    gaps = SpanGaps(orders=(Strided(4), Dilated()), share_random=0.0, share_null=0.0, most_gaps=6, fewest_gaps=4)
    began, kinds = set(), set()
    for seed in range(40):
        example = gaps(TEXT, WORDS, 0, rng(seed))
        assert ((example.times >= 0) == ~example.observed).all() and (example.tokens == TEXT).all()
        assert (example.weights == ~example.observed).all() and (example.canvas[~example.observed] == WORDS.mask).all()
        found = runs(example.times)
        assert 3 <= len(found) <= 6
        for times in found:
            orders = [reveal_times(policy, len(times)).numpy() for policy in gaps.orders]
            which = [index for index, order in enumerate(orders) if (times - times.min() == order).all()]
            assert which
            kinds.update(which if len(which) == 1 else [])
            began.add(int(times.min()))
    assert kinds == {0, 1} and 0 in began and len(began) > 10


def test_random_orders_take_the_steps_that_are_asked_for():
    gaps = SpanGaps(orders=(Strided(4),), share_random=1.0, share_null=0.0, steps=(3,), shortest=12, most_gaps=1)
    steps = {tuple(np.bincount(t - t.min())) for seed in range(60) for t in runs(gaps(TEXT, WORDS, 0, rng(seed)).times)}
    assert {max(sizes) > 1 for sizes in steps} == {True, False}
    assert all(len(sizes) in (3, sum(sizes)) and max(sizes) - min(sizes) <= 1 for sizes in steps)


def test_gaps_of_unknown_length_are_asked_about_before_all_others():
    gaps = SpanGaps(orders=(Strided(4),), share_null=1.0)
    for seed in range(20):
        example = gaps(TEXT, WORDS, 64, rng(seed))
        assert (example.times[example.nullable] == 0).all() and (example.tokens[example.nullable] == WORDS.null).any()


def test_a_whole_text_is_read_from_left_to_right():
    example = WholeTexts()(TEXT, WORDS, 0, rng())
    assert (example.times - example.times[0] == np.arange(200)).all() and (example.weights == 1).all()


def test_rows_hold_times_whatever_the_corruption():
    mixed = Mixture(SpanGaps(orders=(Strided(4),)), share=0.5, rest=RandomMasks())
    row = corrupt_row([TEXT[:60]] * 4, mixed, replace(WORDS, pad=41), 300, (0, 1))
    masked = row["canvas"] != row["tokens"]
    assert ((row["times"] == -1) == row["observed"]).all() and (row["times"][masked] >= 0).all()


def test_a_corruption_says_whether_it_holds_orders():
    ordered = SpanGaps(orders=(Strided(4),))
    for corruption in (SentenceGaps(gaps=ordered), LineGaps(gaps=ordered), Mixture(ordered), WholeTexts()):
        assert corruption.ordered and PositionJumps(corruption).ordered
    for corruption in (SpanGaps(), SentenceGaps(), LineGaps(), Mixture(), RandomMasks()):
        assert not corruption.ordered
