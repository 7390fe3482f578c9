"""Order-causal network against the AR baseline and isolated evidence: seconds of sampling, scoring and learning.

Networks of the shape of `stories` with random weights, on which seconds do not depend; one CPU thread, float32, in turn
in one run, the least of several rounds. The floor counts rows of computation: two for each token of a gap. Run with
`pytest -m benchmark -s tests/benchmarks/test_order_causal.py`.
"""

import time
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from textdiff.models import Transformer, TransformerConfig
from textdiff.posterior import Prior
from textdiff.pretrained import load, prior_of
from textdiff.samplers import Strided
from textdiff.text import Canvas, Vocabulary

pytestmark = pytest.mark.benchmark
ROUNDS, GAP = 5, 32


def prior(causal: bool, attention: str) -> Prior:
    tokenizer: PreTrainedTokenizerBase = load("stories-ar").tokenizer
    config = TransformerConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=6,
        causal=causal,
        attention=attention,  # type: ignore[arg-type]
        max_position_embeddings=4096,
        **Vocabulary.of(tokenizer).special_ids(),
    )
    return prior_of(Transformer(config).eval(), tokenizer)


def canvas_of(vocabulary: Vocabulary, before: int, after: int, rows: int, gap: int = GAP) -> Canvas:
    tokens = torch.randint(300, 1500, (1, before + gap + after), generator=torch.Generator().manual_seed(0))
    tokens[:, before : before + gap] = vocabulary.mask
    return Canvas.of(tokens, vocabulary.mask).repeat(rows)


def seconds(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            found[name].append(time.perf_counter() - start)
    return {name: min(times) for name, times in found.items()}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.fixture(scope="module")
def priors() -> dict[str, Prior]:
    torch.set_num_threads(1)
    kinds = {"baseline": (True, "full"), "isolated": (False, "isolated"), "order-causal": (False, "order-causal")}
    return {name: prior(*kind) for name, kind in kinds.items()}


@pytest.mark.parametrize("rows", [16, 1])
def test_fills(priors: dict[str, Prior], rows: int) -> None:
    canvas = canvas_of(priors["isolated"].vocabulary, 200, 200, rows)
    ways: dict[str, Callable[[], object]] = {"baseline": lambda: priors["baseline"].sample(canvas, generator())}
    for name in ("isolated", "order-causal"):
        for steps in (32, 16, 8, 4):
            one = priors[name].with_policy(Strided(steps))  # type: ignore[attr-defined]
            ways[f"{name}, {steps} steps"] = lambda one=one: one.sample(canvas, generator())
    found = seconds(ways)
    for name, took in found.items():
        print(f"{rows} fills, {name}: {1000 * took:.0f} ms, {took / found['baseline']:.2f} x baseline")


def test_scores_and_a_step_of_learning(priors: dict[str, Prior]) -> None:
    canvas = canvas_of(priors["isolated"].vocabulary, 200, 200, 256)
    tokens = torch.where(canvas.slots, torch.randint(300, 1500, canvas.tokens.shape), canvas.tokens)
    names = ("isolated", "order-causal")
    scored = [priors[name].with_policy(Strided(16)) for name in names]  # type: ignore[attr-defined]

    def scores(one: Prior) -> object:
        with torch.no_grad():
            return one.score(canvas, tokens)

    def gradients(one: Prior) -> None:
        log_q = one.score(canvas.select(torch.arange(32)), tokens[:32]).log_q
        assert log_q is not None
        one.network.zero_grad()
        log_q.square().sum().backward()

    for what, way in {"256 scores": scores, "gradients of 32 scores": gradients}.items():
        found = seconds({name: lambda one=one, way=way: way(one) for name, one in zip(names, scored, strict=True)})
        print(what, {name: round(took, 2) for name, took in found.items()}, found["isolated"] / found["order-causal"])


def test_long_evidence(priors: dict[str, Prior]) -> None:
    one, ways = priors["order-causal"].with_policy(Strided(8)), {}  # type: ignore[attr-defined]
    for length in (256, 2048):
        canvas = canvas_of(one.vocabulary, length // 2, length // 2, 1)
        ways[f"{length} fill"] = lambda canvas=canvas: one.sample(canvas, generator())
        ways[f"{length} read"] = lambda canvas=canvas: one.network.encode_evidence(canvas.tokens, canvas.observed)
    with torch.no_grad():
        found = seconds(ways)
    beyond = {length: found[f"{length} fill"] - found[f"{length} read"] for length in (256, 2048)}
    print({name: round(took, 3) for name, took in found.items()}, "beyond reading:", beyond[2048] / beyond[256])
