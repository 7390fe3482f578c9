"""Path planning: the likeliest tokens are kept after each step, whenever they were drawn."""

from dataclasses import replace

import pytest
import torch

from tests.helpers.laws import canvas_of, seeded
from tests.helpers.policies import RAGGED, one_gap, state_of, walk
from tests.helpers.sampling import WHOLE, distance_to_posterior, noise_of_iid_draws
from textdiff.errors import UserError
from textdiff.samplers import PathPlanning, SampledConfidence, Tempering, sample
from textdiff.testing.tables import TableDenoiser
from textdiff.text import Vocabulary

PLAIN = Vocabulary.toy(3)


@pytest.mark.parametrize("steps", [1, 2, 3, None])
@pytest.mark.parametrize("tempering", [Tempering(), Tempering(0.5, 0.9)], ids=str)
def test_without_remasking_it_is_sampled_confidence(steps, tempering):
    canvas = canvas_of(PLAIN, [None] * 4).repeat(100)
    one, other = (
        sample(TableDenoiser(3, 4, seed=1), canvas, PLAIN, policy, seeded(), tempering=tempering).tokens
        for policy in (PathPlanning(steps, 0.0), SampledConfidence(steps))
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize("eta", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_the_number_of_tokens_follows_the_steps(eta, steps):
    held = torch.zeros_like(RAGGED)
    totals = (RAGGED >= 0).sum(dim=1)
    for step, (revealed, hidden) in enumerate(walk(PathPlanning(steps, eta), RAGGED), 1):
        held = held + revealed.long() - hidden.long()
        assert held.sum(dim=1).tolist() == [int(n) * min(step, int(n), steps) // min(int(n), steps) for n in totals]
    assert torch.equal(held, (RAGGED >= 0).long())


@pytest.mark.parametrize("eta, kept", [(1.0, [0, 2, 3]), (0.1, [0, 1, 2]), (9.0, [2, 3, 4])])
def test_the_likeliest_tokens_are_kept(eta, kept):
    gap, probability = one_gap(5), torch.tensor([0.8, 0.2, 0.6, 0.5, 0.15], dtype=torch.float64)
    masked = torch.tensor([[False, False, True, True, True]])
    log_probs = torch.stack([probability[2:], 1 - probability[2:]], dim=1).log()
    state = replace(
        state_of(log_probs, gap),
        masked=masked,
        drawn=torch.zeros_like(gap),
        confidence=probability.log().masked_fill(masked, 0.0),
    )
    policy = PathPlanning(5, eta)
    kept_slots = state.filled & ~policy.hide(state) | policy.reveal(state)
    assert kept_slots[0].nonzero()[:, 0].tolist() == kept


def test_the_larger_eta_the_more_is_masked_again():
    masked_again = [
        sum(int(hidden.sum()) for _, hidden in walk(PathPlanning(6, eta), torch.zeros(200, 12).long()))
        for eta in (0.0, 0.5, 1.0, 2.0)
    ]
    assert masked_again[0] == 0 and masked_again == sorted(masked_again) and len(set(masked_again)) == 4


def test_it_is_not_posterior_sampling():
    assert distance_to_posterior(PathPlanning(), WHOLE) > 5 * noise_of_iid_draws(tuple(WHOLE))


@pytest.mark.parametrize("wrong", [lambda: PathPlanning(0), lambda: PathPlanning(2, -1.0)])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match="expected"):
        wrong()
