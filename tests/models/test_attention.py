"""Attention written out for training is torch's own."""

import pytest
import torch
import torch.nn.functional as F

from textdiff.models.transformer import attend


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
