"""Identities of the SUBS parameterisation."""

import torch

from textdiff.diffusion import subs

FORBIDDEN = torch.tensor([False, False, True, False, True])


def random_logits():
    return torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))


def test_is_a_distribution_without_mass_on_forbidden_tokens():
    probs = subs(random_logits(), FORBIDDEN).exp()
    torch.testing.assert_close(probs.sum(-1), torch.ones(2, 3))
    assert (probs[..., FORBIDDEN] == 0).all()
    assert (probs[..., ~FORBIDDEN] > 0).all()


def test_is_the_softmax_over_what_is_allowed():
    logits = random_logits()
    torch.testing.assert_close(subs(logits, FORBIDDEN)[..., ~FORBIDDEN], logits[..., ~FORBIDDEN].log_softmax(-1))
    moved = logits + 100 * FORBIDDEN
    torch.testing.assert_close(subs(moved, FORBIDDEN), subs(logits, FORBIDDEN))


def test_half_precision_is_normalised_in_float32_and_double_stays():
    half = random_logits().bfloat16()
    assert subs(half, FORBIDDEN).dtype == torch.float32
    torch.testing.assert_close(subs(half, FORBIDDEN), subs(half.float(), FORBIDDEN))
    assert subs(half.double(), FORBIDDEN).dtype == torch.float64


def test_gradients_are_finite_and_none_reaches_forbidden_logits():
    logits = random_logits().requires_grad_()
    subs(logits, FORBIDDEN)[..., 0].sum().backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[..., FORBIDDEN] == 0).all()
