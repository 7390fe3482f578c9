"""Remasking: how much is masked again and when, and what that does to a posterior."""

from dataclasses import dataclass

import pytest
import torch

from tests.helpers.policies import RAGGED, one_gap, state_of, walk
from tests.helpers.sampling import GIVEN, WHOLE, distance_to_posterior, noise_of_iid_draws
from textdiff.errors import UserError
from textdiff.samplers import ByConfidence, Cap, Chance, Loop, Remasking, Rescale

CHANCES = [Cap(0.0), Cap(0.3), Cap(1.0), Rescale(0.5), ByConfidence()]


@pytest.mark.parametrize("chance", CHANCES, ids=str)
@pytest.mark.parametrize("loop", [None, Loop()], ids=str)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 40])
def test_every_row_takes_exactly_the_steps_and_every_slot_is_filled(chance, loop, steps):
    held, taken = torch.zeros_like(RAGGED), torch.zeros(len(RAGGED), dtype=torch.long)
    for revealed, hidden in walk(Remasking(steps, chance, loop), RAGGED):
        held, taken = held + revealed.long() - hidden.long(), taken + revealed.any(dim=1)
    assert torch.equal(held, (RAGGED >= 0).long())
    assert taken.tolist() == [steps] * len(RAGGED)
    assert len(list(walk(Remasking(steps, chance, loop), one_gap(1)))) == 1  # nothing to correct


@pytest.mark.parametrize("chance", CHANCES[:2], ids=str)
@pytest.mark.parametrize("steps", [4, 12, 30])
def test_as_many_more_are_revealed_as_are_masked_again(chance, steps):
    """After i of T steps i / T of the tokens stand, and one at least, whatever was masked again."""
    held = torch.zeros(50, 12).long()
    for step, (revealed, hidden) in enumerate(walk(Remasking(steps, chance), torch.zeros(50, 12).long()), 1):
        held = held + revealed.long() - hidden.long()
        standing = held.sum(dim=1)
        assert (standing <= max(1, 12 * step // steps)).all()
        if chance == Cap(0.0):
            assert (standing == max(1, 12 * step // steps)).all()
            assert (revealed.sum(dim=1) == 1).all() or steps < 12


@pytest.mark.parametrize("chance, share", [(Rescale(0.25), 0.25 * 4 / 6), (Cap(0.1), 0.1), (Cap(0.9), None)])
def test_slots_are_masked_again_with_probability_sigma(chance, share):
    """In the step from 6 to 8 of 12 tokens, at most (1 - 8/12) / (6/12) = 4/6."""
    _, hidden = list(walk(Remasking(6, chance), torch.zeros(4000, 12).long()))[3]
    if share is not None:
        expected, spread = 6 * share, (6 * share * (1 - share) / 4000) ** 0.5
        assert abs(float(hidden.sum(dim=1).double().mean()) - expected) < 4 * spread + 0.005
    assert hidden.sum(dim=1).max() <= 4
    assert abs(hidden.double().mean(dim=0) - hidden.double().mean()).max() < 0.04  # no slot is preferred


def test_confidence_distributes_sigma():
    state = state_of(torch.zeros(1, 2).log_softmax(-1), torch.tensor([[-1, 0, 0, 0, -1]]))
    probability = torch.tensor([[1.0, 0.9, 1.0, 0.2, 1.0]], dtype=torch.float64)
    masked = torch.tensor([[False, False, True, False, False]])
    state = type(state)(**{**vars(state), "masked": masked, "confidence": probability.log()})
    sigma = ByConfidence().sigma(state, torch.tensor([[0.5]], dtype=torch.float64))
    shares = torch.tensor([-0.9, -0.2], dtype=torch.float64).softmax(0) / 2
    assert torch.allclose(sigma, torch.tensor([[0.0, shares[0], 0.0, shares[1], 0.0]], dtype=torch.float64))


def test_a_loop_holds_its_level_and_masks_again_meanwhile_only():
    done = torch.tensor([0.0, 0.225, 0.45, 0.7, 0.95, 0.975, 1.0], dtype=torch.float64)
    assert torch.allclose(Loop().filled(done), torch.tensor([0.0, 0.45, 0.9, 0.9, 0.9, 0.95, 1.0]).double())
    seen = [bool(hidden.any()) for _, hidden in walk(Remasking(20, Cap(0.1), Loop()), torch.zeros(500, 40).long())]
    assert seen == [False] * 9 + [True] * 10 + [False]


@pytest.mark.parametrize("row", [WHOLE, GIVEN], ids=str)
@pytest.mark.parametrize(
    "policy",
    [Remasking(4, Cap(0.0)), Remasking(9, Cap(0.0)), Remasking(16, Cap(0.0), Loop()), Remasking(16, Cap(0.02))],
    ids=str,
)
def test_steps_of_one_token_leave_the_posterior_as_it_is(policy, row):
    """What is masked again does not depend on the tokens, so a step that draws one of the others is a Gibbs move.

    With sigma = 0 every step reveals one token (for 3 slots the first steps of 4 do, too), and draws are exact in any
    number of steps. Otherwise a step draws 1 + (4 sigma) at most, on average.
    """
    assert distance_to_posterior(policy, row, policy.steps) < 1.5 * noise_of_iid_draws(tuple(row))


def test_steps_of_several_tokens_do_not_and_the_error_shrinks_with_the_steps():
    few, more, many = (distance_to_posterior(Remasking(steps, Cap(1.0)), WHOLE, steps) for steps in (4, 10, 24))
    assert few > more > many
    assert few > 2 * noise_of_iid_draws(tuple(WHOLE)) > 1.5 * many


@dataclass(frozen=True)
class Doubtful(Chance):
    """Only the slot that a step must mask again, and of all slots the one that was drawn with the least probability."""

    def sigma(self, state, most):
        return 1e-200 * (1 - state.confidence.exp()).clamp(min=1e-3) ** 20


def test_a_choice_that_looks_at_the_tokens_is_not_exact_even_one_by_one():
    # Why `ByConfidence` is said to be no posterior sampling: the same steps of one token, chosen by what was drawn.
    assert distance_to_posterior(Remasking(24, Doubtful()), WHOLE, 24) > 2 * noise_of_iid_draws(tuple(WHOLE))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Remasking(0),
        lambda: Cap(1.5),
        lambda: Rescale(-0.1),
        lambda: Loop(1.0),
        lambda: Loop(begin=0.9, end=0.5),
    ],
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match="expected") as error:
        wrong()
    assert "\n" not in str(error.value)
