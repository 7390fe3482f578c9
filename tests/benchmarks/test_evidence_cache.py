"""Speed-up by the evidence cache: 16 fills of 32 tokens in 8 strided steps, with the cache and without it.

The network has the shape of `stories` and random weights, on which seconds do not depend; processor time of one CPU
thread, the two in turn. The floor counts operations: those of the gaps' tokens in each layer, their attention to all
keys, and one encoding of the evidence, whose last layer stops at its keys. Run with
`pytest -m benchmark -s tests/benchmarks/test_evidence_cache.py`.
"""

import statistics
import time

import pytest
import torch

from textdiff.models import Transformer, TransformerConfig
from textdiff.samplers import Strided, sample
from textdiff.text import Canvas, Vocabulary

pytestmark = pytest.mark.benchmark
ROUNDS, FILLS, GAP, STEPS = 2, 16, 32, 8


class Uncached:
    """The same network without its cache: each pass encodes everything anew."""

    def __init__(self, network: Transformer) -> None:
        self.log_probs = network.log_probs


def operations(config: TransformerConfig, length: int) -> float:
    """Multiplications and additions of all fills, the least that an exact sampler of these steps computes.

    The first step, which is the same for all fills, counts once; each step computes all tokens of the gap in every
    layer but the last, where those that it reveals suffice.
    """
    width, wide, layers, evidence = config.hidden_size, config.intermediate_size, config.num_hidden_layers, length - GAP
    inputs, rest, revealed = 6 * width**2, 2 * width**2 + 6 * width * wide, GAP // STEPS
    full, last = GAP * (inputs + rest + 4 * length * width), GAP * inputs + revealed * (rest + 4 * length * width)
    step = (layers - 1) * full + last + revealed * 2 * width * config.vocab_size
    encoding = evidence * ((layers - 1) * (inputs + rest + 4 * evidence * width) + inputs)
    return float(step * (1 + FILLS * (STEPS - 1)) + encoding)


def test_lengths_of_text(stories_vocabulary: Vocabulary) -> None:
    v = stories_vocabulary
    config = TransformerConfig(
        vocab_size=v.size, hidden_size=256, num_hidden_layers=6, num_attention_heads=4, max_position_embeddings=2048,
        **v.special_ids(),
    )  # fmt: skip
    network = Transformer(config).eval()
    generator = torch.Generator().manual_seed(0)
    first, floor = None, 1.0
    for length in (256, 1024, 2048):
        tokens = torch.randint(300, 1500, (1, length), generator=generator)
        tokens[:, length // 2 : length // 2 + GAP] = v.mask
        canvas = Canvas.of(tokens, v.mask).repeat(FILLS)
        ways = {"cached": network} | ({"uncached": Uncached(network)} if length < 2048 else {})
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(ROUNDS):
            for name, denoiser in ways.items():
                start = time.process_time()
                sample(denoiser, canvas, v, Strided(STEPS), torch.Generator().manual_seed(turn))
                seconds[name].append(time.process_time() - start)
        cached = statistics.median(seconds["cached"])
        first, floor = (cached, operations(config, length)) if first is None else (first, floor)
        line = f"\n{length} tokens: {1000 * cached / FILLS:.0f} ms a fill, {cached / first:.2f} times that of 256"
        line += f" (operations: {operations(config, length) / floor:.2f} times)"
        print(
            line
            + (f"; {statistics.median(seconds['uncached']) / cached:.1f} times faster" if "uncached" in seconds else "")
        )


@pytest.fixture
def stories_vocabulary() -> Vocabulary:
    import textdiff as td

    return td.load("stories").vocabulary
