"""Training throughput on one CPU thread: our step against a plain loop with the same transformer, data and optimizer.

The plain loop computes logits at all positions, in float32, without `torch.compile`. Processor time is measured, so
that other programs do not count, and the two take turns. Run with `pytest -m benchmark -s tests/benchmarks`.
"""

import time
from collections.abc import Callable, Iterator
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from textdiff.data import Mixture, PackedRows
from textdiff.data.corpus import in_memory
from textdiff.models import Transformer, denoising_visibility
from textdiff.text import Vocabulary, train_tokenizer
from textdiff.training import AdamW, Network, PretrainingModule

SHAPE = Network(hidden_size=256, num_hidden_layers=6, num_attention_heads=4)
LENGTH, BATCH, STEPS = 512, 8, 4

Batch = dict[str, torch.Tensor]


def texts(count: int) -> list[str]:
    """Stories of 200 made-up words out of 4,000."""
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("aeioubcdfghlmnprst"), rng.integers(2, 9))) for _ in range(4000)])
    return [" ".join(rng.choice(words, 120)) for _ in range(count)]


def plain_loss(network: Transformer, batch: Batch) -> torch.Tensor:
    """All-position logits in float32, nats per maskable token."""
    config = network.config
    logits = network.logits(
        batch["canvas"], denoising_visibility(batch["segments"], batch["observed"], config.attention)
    )
    never = torch.zeros_like(logits, dtype=torch.bool)
    never[..., config.forbidden] = True
    never[..., config.null_token_id] |= ~batch["nullable"]
    asked = batch["weights"] > 0
    losses = F.cross_entropy(
        logits.masked_fill(never, -torch.inf).flatten(0, 1), batch["tokens"].flatten(), reduction="none"
    )
    return (losses.view_as(asked).where(asked, 0) * batch["weights"]).sum() / (~batch["observed"]).sum()


def our_loss(module: PretrainingModule, batch: Batch) -> torch.Tensor:
    """As `PretrainingModule.training_step`, nats per maskable token."""
    losses, weights = module.cross_entropy(batch)
    return (losses * weights).sum() / (~batch["observed"]).sum()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.benchmark
@pytest.mark.usefixtures("one_thread")
def test_our_step_beats_a_plain_loop() -> None:
    stories = texts(400)
    tokenizer = train_tokenizer(stories, 2048)
    rows = PackedRows(in_memory(stories, tokenizer), Vocabulary.of(tokenizer), LENGTH, Mixture(), seed=0, reserve=24)
    batches = torch.utils.data.DataLoader(rows, sampler=[(0, row) for row in range(len(rows))], batch_size=BATCH)
    ours = PretrainingModule(tokenizer, SHAPE)
    plain = deepcopy(ours.network)
    ours.network.compile_blocks()
    optimizers = AdamW().build(ours.network), AdamW().build(plain)

    def our_step(batch: Batch) -> float:
        with torch.autocast("cpu", torch.bfloat16):
            loss = our_loss(ours, batch)
        return stepped(loss, optimizers[0])

    def plain_step(batch: Batch) -> float:
        return stepped(plain_loss(plain, batch), optimizers[1])

    def stepped(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> float:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    def timed(step: Callable[[Batch], float], batch: Batch) -> tuple[float, float]:
        start = time.process_time()
        loss = step(batch)
        return loss, time.process_time() - start

    stream = iter(batches)
    first = next(stream)
    with torch.no_grad():
        assert float(our_loss(PretrainingModule(tokenizer, SHAPE), first)) == pytest.approx(
            float(plain_loss(plain, first)), rel=1e-5
        )
    for step in (our_step, plain_step):  # compiles
        step(first)
    measured = []
    for _, batch in zip(range(STEPS), stream, strict=False):
        tokens = int((batch["segments"] > 0).sum())
        (our, our_seconds), (theirs, their_seconds) = timed(our_step, batch), timed(plain_step, batch)
        assert our == pytest.approx(theirs, rel=0.02)
        measured.append((tokens / our_seconds, tokens / their_seconds))
    fast, slow = np.median(np.array(measured), axis=0)
    print(f"\n{'step':40}{'tokens/s':>10}")
    print(
        f"{'ours: bf16, compiled, masked head':40}{fast:10.0f}\n{'plain: float32, eager, all positions':40}{slow:10.0f}"
    )
    print(f"{'ratio':40}{fast / slow:10.2f}")
    assert fast / slow >= 1.5
