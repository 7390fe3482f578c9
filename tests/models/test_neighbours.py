"""The neighbour input: a masked slot poses the query that a causal network poses at its left neighbour."""

import pytest
import torch

from tests.helpers.networks import CONTENT, MASK, causal_and_denoiser, tokens


def known_and_canvas(length=7, rows=4):
    """Known text, and with a masked slot at its end, which a causal network predicts at the last known token."""
    known = tokens(rows, length)
    return known, torch.cat((known, torch.full((rows, 1), MASK)), dim=1)


def visibility(length, evidence, sees_itself):
    """Attention mask of `length` known tokens and the slot: `[1, length + 1, length + 1]`."""
    visible = torch.ones(length + 1, length + 1, dtype=torch.bool)
    if evidence == "left":
        visible = visible.tril()
    visible[:-1, -1] = False
    visible[-1, -1] = sees_itself
    return visible[None]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_answers_are_equal_if_evidence_attends_to_the_left_and_the_slot_not_to_itself(layers):
    causal, denoiser = causal_and_denoiser(num_hidden_layers=layers)
    known, canvas = known_and_canvas()
    answer = denoiser.logits(canvas, visibility(7, "left", sees_itself=False))[:, -1]
    torch.testing.assert_close(answer, causal.logits(known)[:, -1])


def test_with_one_layer_it_does_not_matter_what_evidence_attends_to():
    causal, denoiser = causal_and_denoiser(num_hidden_layers=1)
    known, canvas = known_and_canvas()
    answer = denoiser.logits(canvas, visibility(7, "everywhere", sees_itself=False))[:, -1]
    torch.testing.assert_close(answer, causal.logits(known)[:, -1])


@pytest.mark.parametrize("layers", [1, 3])
def test_as_used_answers_are_close_but_not_equal(layers):
    # The slot also sees itself, a second copy of its neighbour; and from layer 2 on, evidence that sees later tokens.
    causal, denoiser = causal_and_denoiser(num_hidden_layers=layers)
    known, canvas = known_and_canvas(rows=64)
    goal = causal.logits(known)[:, -1, :CONTENT].log_softmax(-1).detach()
    answer = denoiser.log_probs(canvas, canvas != MASK)[:, -1, :CONTENT].detach()

    def divergence(log_probs):
        return float((goal.exp() * (goal - log_probs)).sum(-1).mean())

    unrelated = divergence(goal.roll(1, 0))
    assert 1e-6 < divergence(answer) < (0.1 if layers == 1 else 0.5) * unrelated


@pytest.mark.parametrize("slot", [1, 3, 6])
def test_a_slot_inside_a_text_poses_the_query_of_a_causal_network_there(slot):
    causal, denoiser = causal_and_denoiser()
    known = tokens(3, 7)
    visible = torch.ones(7, 7, dtype=torch.bool).tril()
    visible[slot, slot] = False
    answer = denoiser.logits(known.index_fill(1, torch.tensor(slot), MASK), visible[None])[:, slot]
    torch.testing.assert_close(answer, causal.logits(known)[:, slot - 1])


def test_a_neighbour_that_is_not_visible_is_no_input():
    _, denoiser = causal_and_denoiser()
    _, canvas = known_and_canvas()
    visible = visibility(7, "left", sees_itself=True)
    visible[:, -1, -2] = False
    other = canvas.index_fill(1, torch.tensor(6), 0)
    assert (canvas != other).any()
    assert torch.equal(denoiser.logits(canvas, visible)[:, -1], denoiser.logits(other, visible)[:, -1])
