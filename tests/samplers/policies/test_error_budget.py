"""The error budget: predicted errors, the strides that follow, and calibration."""

import math

import pytest
import torch

from tests.helpers.laws import seeded
from tests.helpers.policies import one_gap, rounds, state_of
from textdiff.errors import UserError
from textdiff.samplers import Dependence, ErrorBudget, Strided, calibrate
from textdiff.testing.tables import TableOracle
from textdiff.text import Canvas, Vocabulary

NEAR = Dependence(((0.5, 0.1, 0.02, 0.004), (0.5, 0.05, 0.01, 0.002), (0.5, 0.05, 0.01, 0.001), (0.5, 0.05, 0.0, 0.0)))


def flat(gap):
    """A state whose marginals are uniform over five tokens."""
    return state_of(torch.zeros(int((gap >= 0).sum()), 5, dtype=torch.float64).log_softmax(-1), gap)


def strides(policy, gap):
    return policy.plan(flat(gap))[0].tolist()


def test_no_budget_fills_one_token_after_the_other():
    assert torch.equal(rounds(ErrorBudget(0.0, NEAR), one_gap(9)), rounds(Strided(9), one_gap(9)))


def test_a_large_budget_fills_all_at_once():
    assert len(rounds(ErrorBudget(99.0, NEAR), one_gap(9))) == 1


@pytest.mark.parametrize("nats", [0.01, 0.03, 0.1, 0.3, 1.0, 3.0])
def test_the_stride_is_the_smallest_that_fits_and_is_kept(nats):
    n = 12

    def predicted(stride):
        pairs = [(i, j) for i in range(n) for j in range(i) if (i - j) % stride == 0]
        seen = [(i - j) // stride * (j % stride) for i, j in pairs]  # slots between that earlier steps have filled
        rows = [min(b, 2) if b < 4 else 3 for b in seen]
        return sum(NEAR.shares[r][min(i - j, 4) - 1] * math.log(5) for r, (i, j) in zip(rows, pairs, strict=True))

    expected = next(stride for stride in range(1, n + 1) if predicted(stride) <= nats)
    policy = ErrorBudget(nats, NEAR)
    stride, error = policy.plan(flat(one_gap(n)))
    assert stride.tolist() == [expected]
    assert float(error) == pytest.approx(predicted(expected))
    revealed = rounds(policy, one_gap(n))  # marginals that change from step to step
    assert len(revealed) in {step for step in range(1, n + 1) if len(rounds(Strided(step), one_gap(n))) == step}
    assert torch.equal(revealed, rounds(Strided(len(revealed)), one_gap(n)))


def test_sure_marginals_need_fewer_steps():
    log_probs = torch.tensor([0.99, 0.01], dtype=torch.float64).log().expand(12, 2)
    sure = ErrorBudget(0.1, NEAR).plan(state_of(log_probs, one_gap(12)))[0]
    assert int(sure) < strides(ErrorBudget(0.1, NEAR), one_gap(12))[0]


def test_a_row_plans_by_itself():
    gap = torch.tensor([[0] * 10, [0] * 4 + [-1] * 6, [-1, 0, 0, 0, 0, 0, -1, 1, 1, 1]])
    policy = ErrorBudget(0.2, NEAR)
    assert strides(policy, gap) == [strides(policy, row[None])[0] for row in gap]


def test_gaps_too_close_for_the_budget_are_filled_one_after_the_other():
    gap = torch.tensor([[0, 0, -1, 1, 1]])
    revealed = rounds(ErrorBudget(0.0, NEAR), gap)
    assert revealed.sum(dim=(1, 2)).tolist() == [1, 1, 1, 1]
    assert rounds(ErrorBudget(0.2, Dependence(((0.5, 0.1, 0.0),) * 4)), gap).sum(dim=(1, 2)).tolist() == [2, 2]


def test_shares_depend_on_distance_and_on_what_is_visible_between():
    apart, between = torch.tensor([0, 1, 2, 2, 3, 9, 9]), torch.tensor([0, 0, 0, 1, 2, 3, 100])
    assert NEAR.share(apart, between).tolist() == [0.0, 0.5, 0.1, 0.05, 0.01, 0.001, 0.0]


def test_calibration_measures_mutual_information():
    """Positions 0 and 1 hold the same fair coin, 2 and 3 are drawn apart."""
    joint = torch.zeros(2, 2, 2, 2, dtype=torch.float64)
    joint[0, 0] = joint[1, 1] = 1
    oracle, vocabulary = TableOracle(joint), Vocabulary.toy(2)
    probs = oracle.joint.flatten()
    texts = oracle.outcomes[torch.multinomial(probs, 64, True, generator=seeded())]
    items = [(Canvas.of(torch.full((1, 4), vocabulary.mask), vocabulary.mask), text[None]) for text in texts]
    shares = calibrate(oracle, vocabulary, items, seeded(), canvases=20).shares
    assert 0.15 < shares[0][0] < 0.6  # one of three neighbouring pairs, while none of it is known
    assert all(row[1:] == pytest.approx((0.0, 0.0), abs=1e-9) for row in shares)
    apart = TableOracle(torch.ones(2, 2, 2, 2))
    for row in calibrate(apart, vocabulary, items[:8], seeded()).shares:
        assert row == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)


def test_calibration_needs_gaps_of_two():
    vocabulary = Vocabulary.toy(2)
    row = torch.tensor([[0, vocabulary.mask, 1, 1]])
    with pytest.raises(UserError, match="gaps of two tokens or more"):
        calibrate(TableOracle(torch.ones(2, 2, 2, 2)), vocabulary, [(Canvas.of(row, vocabulary.mask), row)], seeded())


def test_a_saved_dependence_loads_again(tmp_path):
    saved = Dependence(((0.25, 0.125), (0.2, 0.1), (0.0, 1.0), (0.0, 0.0)), 7)
    saved.save(tmp_path / "d.json")
    assert Dependence.load(tmp_path / "d.json") == saved


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"shares": [[2]], "gaps": 1}', '{"shares": "ab"}'])
def test_a_damaged_dependence_gets_one_line(tmp_path, content):
    (tmp_path / "d.json").write_text(content)
    with pytest.raises(UserError, match="calibrate") as error:
        Dependence.load(tmp_path / "d.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("nats", [-0.1, math.nan, math.inf])
def test_a_budget_is_a_number_of_nats(nats):
    with pytest.raises(UserError, match="expected a number of nats"):
        ErrorBudget(nats, NEAR)
