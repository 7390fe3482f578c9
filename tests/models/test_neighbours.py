"""A masked slot asks from where its left neighbour stands: what its causal twin would answer there."""

import pytest
import torch

from tests.helpers.networks import CONTENT, MASK, tokens, twins


def asked(length=7, rows=4):
    """Known text and one masked slot at its end; the twin answers for the slot at the last known token."""
    known = tokens(rows, length)
    return known, torch.cat((known, torch.full((rows, 1), MASK)), dim=1)


def visibility(length, evidence, sees_itself):
    """Of `length` known tokens and the slot: [1, length + 1, length + 1]."""
    visible = torch.ones(length + 1, length + 1, dtype=torch.bool)
    if evidence == "left":
        visible = visible.tril()
    visible[:-1, -1] = False
    visible[-1, -1] = sees_itself
    return visible[None]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_answer_is_the_twins_if_evidence_looks_left_and_the_slot_not_at_itself(layers):
    twin, denoiser = twins(num_hidden_layers=layers)
    known, canvas = asked()
    answer = denoiser.logits(canvas, visibility(7, "left", sees_itself=False))[:, -1]
    torch.testing.assert_close(answer, twin.logits(known)[:, -1])


def test_with_one_layer_it_does_not_matter_where_evidence_looks():
    twin, denoiser = twins(num_hidden_layers=1)
    known, canvas = asked()
    answer = denoiser.logits(canvas, visibility(7, "everywhere", sees_itself=False))[:, -1]
    torch.testing.assert_close(answer, twin.logits(known)[:, -1])


@pytest.mark.parametrize("layers", [1, 3])
def test_as_used_the_answer_is_near_the_twins_but_not_the_same(layers):
    # The slot also sees itself, a second copy of its neighbour; and after one layer, evidence that has looked ahead.
    twin, denoiser = twins(num_hidden_layers=layers)
    known, canvas = asked(rows=64)
    goal = twin.logits(known)[:, -1, :CONTENT].log_softmax(-1).detach()
    answer = denoiser.log_probs(canvas, canvas != MASK)[:, -1, :CONTENT].detach()

    def divergence(law):
        return float((goal.exp() * (goal - law)).sum(-1).mean())

    strangers = divergence(goal.roll(1, 0))
    assert 1e-6 < divergence(answer) < (0.1 if layers == 1 else 0.5) * strangers


@pytest.mark.parametrize("slot", [1, 3, 6])
def test_a_slot_inside_a_text_asks_what_the_twin_is_asked_there(slot):
    twin, denoiser = twins()
    known = tokens(3, 7)
    visible = torch.ones(7, 7, dtype=torch.bool).tril()
    visible[slot, slot] = False
    answer = denoiser.logits(known.index_fill(1, torch.tensor(slot), MASK), visible[None])[:, slot]
    torch.testing.assert_close(answer, twin.logits(known)[:, slot - 1])


def test_a_slot_that_may_not_see_its_neighbour_does_not_read_it():
    _, denoiser = twins()
    _, canvas = asked()
    visible = visibility(7, "left", sees_itself=True)
    visible[:, -1, -2] = False
    other = canvas.index_fill(1, torch.tensor(6), 0)
    assert (canvas != other).any()
    assert torch.equal(denoiser.logits(canvas, visible)[:, -1], denoiser.logits(other, visible)[:, -1])
