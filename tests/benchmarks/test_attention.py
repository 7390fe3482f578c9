"""Attention in training on one CPU thread: written out and compiled, against torch's own, bfloat16, forward and back.

The rows have 66 to 512 tokens; from 256 on `attend` is torch's own, so there the ratio is 1. The two take turns. Run
with `pytest -m benchmark -s tests/benchmarks`.
"""

import statistics
import time

import pytest
import torch
import torch.nn.functional as F

from textdiff.models.attention import attend

pytestmark = pytest.mark.benchmark
ROUNDS = 5


@pytest.mark.parametrize("rows, length, channels", [(128, 66, 32), (64, 128, 64), (32, 256, 64), (8, 512, 64)])
def test_attention_in_training(rows: int, length: int, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (rows, 4, length, channels)
    query, key, value, slope = (torch.randn(shape, generator=generator).bfloat16() for _ in range(4))
    parts = [some.requires_grad_() for some in (query, key, value)]
    visible = torch.rand(rows, 1, length, length, generator=generator) < 0.7
    bias = torch.zeros((), dtype=torch.bfloat16).masked_fill(~visible, -torch.inf)
    ways = {
        "ours": torch.compile(attend),
        "torch": lambda q, k, v, b: F.scaled_dot_product_attention(q, k, v, attn_mask=b),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            torch.autograd.grad(way(*parts, bias), parts, slope)
            if turn:  # the first compiles
                seconds[name].append(time.perf_counter() - start)
    ours, theirs = (1000 * statistics.median(seconds[name]) for name in ("ours", "torch"))
    print(f"\nlength {length}: ours {ours:.0f} ms, torch {theirs:.0f} ms, ratio {theirs / ours:.2f}")
