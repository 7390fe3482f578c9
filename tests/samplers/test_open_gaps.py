"""Gaps of unknown length in the denoising loop."""

import pytest
import torch

from tests.helpers.laws import (
    canvas_of,
    seeded,
)
from tests.helpers.sampling import (
    NULLABLE,
    PLAIN,
    TWO_GAPS,
    WHOLE,
    enumerated,
    score,
)
from textdiff.errors import UserError
from textdiff.samplers import (
    Blocks,
    Dilated,
    Entropy,
    EntropyBounded,
    LeftToRight,
    Strided,
    sample,
)
from textdiff.testing.tables import TableDenoiser, TableOracle


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
        possible = True
        for gap, least in enumerate(minimum):
            held = (text[canvas.gap[0] == gap] != NULLABLE.null).tolist()
            possible &= held == sorted(held, reverse=True) and sum(held) >= least
        assert (probability > 0) == possible
    drawn = sample(denoiser, canvas.repeat(500), NULLABLE, policy, seeded())
    assert (score(denoiser, canvas, NULLABLE, policy, drawn.tokens) > -torch.inf).all()
    unknown = minimum != canvas.maximum[0].tolist()
    assert torch.equal(drawn.nfe, drawn.steps + unknown)


def test_the_length_of_one_doubtful_slot_has_the_posterior():
    # With one slot in doubt, its null marginal is the posterior of the length, and the posterior is reproduced.
    oracle, canvas = TableOracle.random(3, 4, null=True), canvas_of(NULLABLE, [0, 1, None, 1], minimum=[0])
    tokens, q = enumerated(oracle, canvas, NULLABLE, Entropy())
    assert torch.allclose(q.log(), oracle.log_prob(tokens) - oracle.log_prob(canvas.tokens))


def test_unknown_lengths_need_a_null_token():
    canvas = canvas_of(PLAIN, WHOLE, minimum=[1])
    with pytest.raises(UserError, match="no null token"):
        sample(TableDenoiser(3, 4), canvas, PLAIN, Strided(), seeded())


class Recorder:
    """A denoiser that records, for each call, whether null may be an answer, and the number of slots."""

    def __init__(self, denoiser):
        self.denoiser, self.calls = denoiser, []

    def log_probs(self, canvas, observed, where=None, null=False):
        self.calls.append((null, int(where.sum())))
        return self.denoiser.log_probs(canvas, observed, where, null)


def test_null_is_an_answer_only_when_lengths_are_drawn():
    denoiser = Recorder(TableDenoiser(3, 4, seed=1, null=True))
    sample(denoiser, canvas_of(NULLABLE, WHOLE, minimum=[4]), NULLABLE, Entropy(2), seeded())
    assert denoiser.calls == [(False, 4), (False, 2)]
    denoiser.calls.clear()
    sample(denoiser, canvas_of(NULLABLE, WHOLE, minimum=[3]), NULLABLE, Strided(1), seeded())
    assert [null for null, _ in denoiser.calls] == [True, False]
    assert denoiser.calls[0] == (True, 4)


def test_a_minimum_above_the_slots_is_an_error():
    with pytest.raises(ValueError, match="minimum is above"):
        sample(TableDenoiser(3, 4, null=True), canvas_of(NULLABLE, WHOLE, minimum=[5]), NULLABLE, Strided(), seeded())
