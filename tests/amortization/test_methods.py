"""Trajectory balance, the reverse KL and distillation learn a posterior that can be enumerated."""

import pytest

from tests.helpers.amortization import QUERIES, WORLD, kl, learner, train
from textdiff.amortization import Distillation, Method, ReverseKL, Task, TrajectoryBalance
from textdiff.errors import UserError
from textdiff.inference import Exact, Importance


@pytest.mark.parametrize(
    "method",
    [
        TrajectoryBalance(8),
        pytest.param(TrajectoryBalance(8, temperature=1.5, replayed=3), marks=pytest.mark.slow),
        pytest.param(TrajectoryBalance(8, from_target=4), marks=pytest.mark.slow),
        pytest.param(TrajectoryBalance(8, "learned"), marks=pytest.mark.slow),
        Distillation(Exact(), teacher_samples=32, kept=None, draws=32),
        pytest.param(
            Distillation(Importance(), teacher_samples=64, kept=32, draws=16, round_steps=20), marks=pytest.mark.slow
        ),
    ],
    ids=["vargrad", "replay", "from target", "learned log Z", "distillation", "expert iteration"],
)
def test_a_method_learns_the_posterior(method: Method) -> None:
    """KL(q || posterior) must fall from over 20 nats by 90 % for each evidence; an impossible fill counts 50."""
    prior = learner()
    before = [kl(prior, number) for number in range(3)]
    train(Task(prior, WORLD), method, 100)
    after = [kl(prior, number) for number in range(3)]
    assert max(after) < 0.1 * min(before), (before, after)


@pytest.mark.slow
def test_the_reverse_kl_falls() -> None:
    prior = learner()
    before = kl(prior, 1)
    train(Task(prior, WORLD), ReverseKL(8), 100)
    assert kl(prior, 1) < 0.2 * before


@pytest.mark.slow
def test_a_learnt_normaliser_converges_to_log_z() -> None:
    """Within 0.3 nats, with half of the draws from the target: from the learner's alone it would take long."""
    prior, method = learner(), TrajectoryBalance(16, "learned", from_target=8)
    train(Task(prior, WORLD), method, 200)
    for number in range(3):
        truth = float(WORLD.log_evidence(QUERIES[number].canvas))
        assert abs(method.log_z[number] - truth) < 0.3


def test_a_number_of_draws_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(UserError, match="draws is 1"):
        TrajectoryBalance(1)
    with pytest.raises(UserError, match="draws is 4, of which 3 replayed and 2"):
        TrajectoryBalance(4, replayed=3, from_target=2)
    with pytest.raises(UserError, match="leave-one-out"):
        ReverseKL(1)
