"""The interface of Hugging Face: `forward` takes its arguments, and answers as the library's own methods do."""

import pytest
import torch
import torch.nn.functional as F
from transformers.modeling_outputs import CausalLMOutput, MaskedLMOutput

from tests.helpers.foreign_models import denoiser
from tests.helpers.networks import MASK, PAD, network, tokens
from textdiff.diffusion import subs

LENGTH, FILLER = 8, 3


def padded(ids, value=PAD):
    """Ids with padding on the right, and the attention mask that hides it."""
    return F.pad(ids, (0, FILLER), value=value), F.pad(torch.ones_like(ids), (0, FILLER))


def test_a_denoiser_fills_in_what_is_masked():
    """With isolated attention, too: by default all that is not masked is evidence."""
    canvas = tokens(3, LENGTH).index_fill(1, torch.tensor([2, 3, 6]), MASK)
    ids, mask = padded(canvas)
    for attention in ("isolated", "full"):
        net = network(attention=attention)
        found = net(input_ids=ids, attention_mask=mask)
        assert isinstance(found, MaskedLMOutput) and found.logits.shape[:2] == ids.shape
        expected = net.log_probs(canvas, canvas != MASK)
        answer = subs(found.logits, net.forbidden_mask(ids.device, null=False))
        torch.testing.assert_close(answer[:, :LENGTH], expected)
        torch.testing.assert_close(net(canvas).logits, found.logits[:, :LENGTH])


def test_a_token_of_a_gap_differs_from_evidence():
    canvas = tokens(2, LENGTH).index_fill(1, torch.tensor([2, 3]), MASK)
    observed = torch.ones_like(canvas, dtype=torch.bool).index_fill(1, torch.tensor([2, 3, 4]), False)
    net = network()
    answer = subs(net(canvas, observed=observed).logits, net.forbidden_mask(canvas.device, null=False))
    torch.testing.assert_close(answer, net.log_probs(canvas, observed))
    assert not torch.allclose(net(canvas).logits, net(canvas, observed=observed).logits)


def test_a_causal_network_predicts_the_next_token():
    net, ids = network(causal=True), tokens(2, LENGTH)
    found = net(input_ids=ids)
    assert isinstance(found, CausalLMOutput)
    assert torch.equal(found.logits, net.logits(ids))
    wide, mask = padded(ids)
    torch.testing.assert_close(net(wide, attention_mask=mask).logits[:, :LENGTH], found.logits)
    left = torch.cat((wide[:, LENGTH:], ids), dim=1), torch.cat((mask[:, LENGTH:], mask[:, :LENGTH]), dim=1)
    positions = (left[1].cumsum(1) - 1).clamp(min=0)
    torch.testing.assert_close(net(*left, position_ids=positions).logits[:, FILLER:], found.logits)


@pytest.mark.parametrize("kind", ["llada", "dream", "bert"])
def test_a_foreign_denoiser_does_not_see_padding(kind):
    net, ids = denoiser(kind), tokens(2, LENGTH)
    wide, mask = padded(ids, value=0)
    with torch.no_grad():
        found = net(input_ids=wide, attention_mask=mask)
        assert isinstance(found, MaskedLMOutput)
        torch.testing.assert_close(found.logits[:, :LENGTH], net.logits(ids), atol=1e-4, rtol=1e-4)
