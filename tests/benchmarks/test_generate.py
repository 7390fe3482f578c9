"""Tokens per second of autoregressive infilling against `transformers.generate`, on the same weights in one run.

The shipped AR baseline, as it is and as a Qwen3 model of Hugging Face; 16 continuations of 32 tokens of one prefix of
200, in float32, sampled without tempering. The two take turns. Run with `pytest -m benchmark -s tests/benchmarks`.
"""

import statistics
import time

import pytest
import torch

import textdiff as td
from textdiff.models.export import as_qwen
from textdiff.posterior import seeded
from textdiff.text import Canvas

N, PREFIX, NEW, ROUNDS = 16, 200, 32, 7

pytestmark = pytest.mark.benchmark


def test_autoregressive_infilling_is_as_fast_as_generate() -> None:
    prior = td.load("stories-ar")
    theirs = as_qwen(prior.network)
    v = prior.vocabulary
    content = (~v.forbidden).nonzero()[:, 0]
    content = content[content != v.null]
    words = content[torch.randint(len(content), (PREFIX - 1,), generator=seeded(0))]
    prefix = torch.cat((torch.tensor([v.bos]), words))
    row = torch.cat((prefix, torch.full((NEW,), v.mask), torch.tensor([v.eos])))
    canvas = Canvas.of(row[None], v.mask)

    def ours() -> int:
        return int(prior.given(canvas).sample(N, generator=0).nfe.sum())

    def generate() -> int:
        found = theirs.generate(
            prefix[None].repeat(N, 1),
            attention_mask=torch.ones(N, PREFIX, dtype=torch.long),
            do_sample=True,
            top_k=0,
            max_new_tokens=NEW,
            min_new_tokens=NEW,
        )
        return found[:, PREFIX:].numel()

    seconds: dict[str, list[float]] = {"ours": [], "generate": []}
    for turn in range(ROUNDS + 1):
        for name, run in (("ours", ours), ("generate", generate)):
            start = time.perf_counter()
            assert run() == N * NEW
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
    pace = {name: N * NEW / statistics.median(times) for name, times in seconds.items()}
    ratio = pace["ours"] / pace["generate"]
    print(f"\nours {pace['ours']:.0f} tokens/s, generate {pace['generate']:.0f}: ratio {ratio:.2f}")
