"""Attention is that of torch: step by step for training, causal, and to two sets of keys in turn."""

import pytest
import torch
import torch.nn.functional as F

from textdiff.models import attention
from textdiff.models.attention import attend, attend_with_mass, merge


def inputs(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 7, 4, dtype=dtype, generator=generator).requires_grad_() for _ in range(3))
    visible = torch.rand(2, 1, 7, 7, generator=generator) < 0.5
    visible |= torch.eye(7, dtype=torch.bool)
    return query, key, value, torch.zeros(2, 1, 7, 7, dtype=dtype).masked_fill(~visible, -torch.inf)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_gradients_are_those_of_torch(dtype, tolerance):
    *parts, bias = inputs(dtype)
    ours, theirs = attend(*parts, bias), F.scaled_dot_product_attention(*parts, attn_mask=bias)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=max(tolerance, 1e-6))  # its softmax is float32
    slope = torch.randn_like(ours)
    for mine, its in zip(
        torch.autograd.grad(ours, parts, slope), torch.autograd.grad(theirs, parts, slope), strict=True
    ):
        torch.testing.assert_close(mine, its, rtol=0, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(attend(*parts, bias), F.scaled_dot_product_attention(*parts, attn_mask=bias))


def test_a_row_that_sees_nothing_spoils_no_gradient():
    *parts, bias = inputs()
    bias[0, 0, 2] = -torch.inf
    assert all(slope.isfinite().all() for slope in torch.autograd.grad(attend(*parts, bias)[:, :, 3:].sum(), parts))


@pytest.mark.parametrize("grad", [False, True])
def test_causal_attention_is_that_with_a_causal_mask(grad):
    *parts, _ = inputs()
    bias = torch.zeros(7, 7, dtype=torch.float64).masked_fill(~torch.ones(7, 7, dtype=torch.bool).tril(), -torch.inf)
    with torch.set_grad_enabled(grad):
        assert torch.equal(attend(*parts, None, causal=True), attend(*parts, bias.expand(2, 1, 7, 7)))


@pytest.mark.parametrize("fused", [True, False])
def test_attention_to_two_sets_of_keys_is_that_to_all(fused, monkeypatch):
    """With torch's private kernel, and without it, as in a version of torch that has none."""
    if not fused:
        monkeypatch.setattr(attention, "_FLASH_WITH_MASS", None)
    query, key, value, bias = inputs(torch.float32)
    with torch.no_grad():
        first = attend_with_mass(query, key[:, :, :3], value[:, :, :3], bias[..., :3])
        second = attend_with_mass(query, key[:, :, 3:], value[:, :, 3:], bias[..., 3:])
        torch.testing.assert_close(merge(first, second), attend(query, key, value, bias), rtol=1e-5, atol=1e-5)
