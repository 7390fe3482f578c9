"""The ways to fill a gap that `textdiff bench` times: this library's, and reference loops on the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, final

import torch
from torch import Tensor

from textdiff.denoisers import Denoiser
from textdiff.evaluation.likelihoods import BASELINES
from textdiff.evaluation.reference_loops import UncachedDenoiser, common_loop, logits_of, reuse_loop
from textdiff.evaluation.timing import Timed, Way, measure
from textdiff.models import Transformer
from textdiff.models.export import as_qwen
from textdiff.posterior import seeded
from textdiff.posterior.posterior import chunks
from textdiff.priors import AutoregressivePrior
from textdiff.samplers import Entropy, Strided, UnmaskingPolicy, sample
from textdiff.text import Canvas, Vocabulary

ROOM = 2**27
"""Log-probabilities (float64, several copies) that a batch of a reference loop may hold; larger batches are split."""

Loop = Callable[..., tuple[Tensor, int]]
"""A loop of `textdiff.evaluation.reference_loops`."""


@final
@dataclass(frozen=True)
class _TableDenoiser:
    """A denoiser that costs nothing: it looks its log-probabilities up in a table `[positions, vocabulary]`."""

    table: Tensor

    def log_probs(self, canvas: Tensor, observed: Tensor, where: Tensor | None = None, null: bool = False) -> Tensor:
        """See `textdiff.denoisers.Denoiser`."""
        if where is not None:
            return self.table[: where.sum()]
        return self.table[: canvas.numel()].view(*canvas.shape, -1)


def overhead(
    vocabulary: int = 50_000,
    texts: int = 8,
    length: int = 128,
    gap: int = 32,
    steps: int = 8,
    *,
    rounds: int = 3,
    device: torch.device | str = "cpu",
) -> tuple[Timed, ...]:
    """Cost of a step without the network: the ways on a denoiser whose log-probabilities cost nothing.

    Returns:
        Of each way the seconds of a step of the whole batch, this library's first.
    """
    log_probs = torch.randn(texts * length, vocabulary, generator=seeded(0)).log_softmax(-1)
    log_probs[:, vocabulary - 1] = -torch.inf
    log_probs = log_probs.to(device)
    v = Vocabulary.toy(vocabulary - 1).to(device)
    tokens = torch.randint(vocabulary - 1, (texts, length), generator=seeded(0))
    start = (length - gap) // 2
    tokens[:, start : start + gap] = v.mask
    canvas = Canvas.of(tokens, v.mask).to(device)
    denoiser, whole = _TableDenoiser(log_probs), log_probs.view(texts, length, vocabulary)

    def ours(policy: UnmaskingPolicy) -> Way:
        return _sampled(denoiser, canvas, v, policy)

    def theirs(loop: Loop, **options: Any) -> Way:
        def run(seed: int) -> float:
            generator = torch.Generator(device).manual_seed(seed)
            return loop(lambda x: whole, canvas.tokens, v.mask, steps, generator, **options)[1]

        return Way(texts, run)

    ways = {
        f"strided, {steps} steps": ours(Strided(steps)),
        f"entropy, {steps} steps": ours(Entropy(steps)),
        f"common loop, {steps} steps, random order": theirs(common_loop),
        f"common loop, {steps} steps, low confidence": theirs(common_loop, order="low-confidence"),
        f"common loop, {steps} steps, low confidence, temperature 0": theirs(
            common_loop, order="low-confidence", temperature=0.0
        ),
        f"reuse when unchanged, {steps} steps": theirs(reuse_loop),
    }
    found = measure(ways, rounds, torch.device(device))
    return tuple(replace(row, seconds=row.seconds * texts / steps) for row in found if row.seconds is not None)


def end_to_end(
    network: Transformer,
    baseline: Transformer | None,
    vocabulary: Vocabulary,
    canvas: Canvas,
    fills: int,
    *,
    steps: Sequence[int] = (8,),
    reference_steps: Sequence[int] = (32,),
    rounds: int = 3,
    most: float = 120.0,
) -> tuple[Timed, ...]:
    """Seconds for a fill of each way, all on the same weights.

    Args:
        network: a denoiser.
        baseline: a causal network; None: leave out autoregression.
        vocabulary: of both.
        canvas: a gap in each row, of the same length in all.
        fills: of each row.
        steps: of this library's strided order; its naive version is measured with the first of them.
        reference_steps: of the reference loops.
        rounds: of which the median counts; one more warms up and measures the memory.
        most: seconds that a way may take in a round, by a rough forecast.
    """
    device, length = canvas.tokens.device, canvas.tokens.shape[1]
    rows, gap = len(canvas) * fills, int(canvas.slots[0].sum())
    whole = canvas.repeat(fills)

    def strided(count: int, denoiser: Denoiser, at_once: int) -> Way:
        return _sampled(denoiser, whole.select(torch.arange(at_once, device=device)), vocabulary, Strided(count))

    def reference(loop: Loop, count: int) -> Way:
        return _looped(loop, count, network, whole, vocabulary)

    ours = next(chunks(rows, gap)).stop
    ways = {f"strided, {count} steps": strided(count, network, ours) for count in steps}
    naive = max(1, min(rows, 2**14 // length))
    ways[f"naive: strided, {steps[0]} steps"] = strided(steps[0], UncachedDenoiser(network), naive)
    ways |= {f"common loop, {count} steps": reference(common_loop, count) for count in reference_steps}
    ways |= {f"reuse when unchanged, {count} steps": reference(reuse_loop, count) for count in reference_steps}
    if baseline is not None:
        at_once = next(chunks(rows, length)).stop
        some = whole.select(torch.arange(at_once, device=device))
        runs = (_autoregressive(baseline, some, vocabulary), _generated(baseline, some, gap))
        ways |= {name: Way(at_once, run) for name, run in zip(BASELINES, runs, strict=True)}
    return measure(ways, rounds, device, most)


def _sampled(denoiser: Denoiser, canvas: Canvas, vocabulary: Vocabulary, policy: UnmaskingPolicy) -> Way:
    """This library's denoising loop."""
    return Way(len(canvas), lambda seed: float(sample(denoiser, canvas, vocabulary, policy, seeded(seed)).nfe[0]))


def _looped(loop: Loop, steps: int, network: Transformer, canvas: Canvas, vocabulary: Vocabulary) -> Way:
    """A reference loop, on as many rows as fit into memory."""
    length, device = canvas.tokens.shape[1], canvas.tokens.device
    rows = max(1, min(len(canvas), ROOM // (length * vocabulary.size)))
    tokens, observed = canvas.tokens[:rows], canvas.observed[:rows]

    def run(seed: int) -> float:
        generator = torch.Generator(device).manual_seed(seed)
        return loop(logits_of(network, observed), tokens, vocabulary.mask, steps, generator)[1]

    return Way(rows, run, rows * length * vocabulary.size * steps)


def _autoregressive(baseline: Transformer, canvas: Canvas, vocabulary: Vocabulary) -> Callable[[int], float]:
    """This library's autoregression on the text before the gap."""
    prior = AutoregressivePrior(baseline, cast(Any, None), vocabulary)  # no text is tokenised
    return lambda seed: float(prior.sample(canvas, seeded(seed)).nfe[0])


def _generated(baseline: Transformer, canvas: Canvas, gap: int) -> Callable[[int], float]:
    """`transformers.generate` on the text before the gap, padded on the left to the longest one."""
    model, config = as_qwen(baseline), baseline.config
    start = canvas.slots.long().argmax(dim=1)
    longest = int(start.max())
    column = torch.arange(longest, device=start.device) - (longest - start)[:, None]
    known = column >= 0
    prefix = canvas.tokens.gather(1, column.clamp(min=0)).masked_fill(~known, config.pad_token_id)

    @torch.no_grad()
    def run(seed: int) -> float:
        torch.manual_seed(seed)  # generate takes no generator
        found = model.generate(
            prefix,
            attention_mask=known.long(),
            do_sample=True,
            top_k=0,
            max_new_tokens=gap,
            min_new_tokens=gap,
            pad_token_id=config.pad_token_id,
        )
        return float(found.shape[1] - longest)

    return run
