"""How long each way to fill a gap takes, on the same weights in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from textdiff.errors import UserError
from textdiff.evaluation.likelihoods import Likelihood
from textdiff.evaluation.memory import peak
from textdiff.evaluation.reference_loops import Naive, common_loop, logits_of, reuse_loop
from textdiff.models import Transformer, TransformerConfig
from textdiff.models.export import as_qwen
from textdiff.posterior import seeded
from textdiff.posterior.posterior import chunks
from textdiff.priors import AutoregressivePrior
from textdiff.samplers import Entropy, Strided, UnmaskingPolicy, sample
from textdiff.text import Canvas, Vocabulary

ROOM = 2**27
"""Answers (a float64 each, several times over) that a rival's batch may hold; what is larger goes in parts."""

SECONDS_PER_ANSWER = 1e-7
"""What the common loop takes for one, on one thread; only to know in advance what is hopeless."""


@dataclass(frozen=True)
class Case:
    """What is filled: `fills` fills of one gap of `gap` tokens in each of `texts` texts."""

    texts: int
    fills: int
    length: int
    vocabulary: int
    gap: int = 32

    def __str__(self) -> str:
        what = f"{self.texts} text{'s' * (self.texts > 1)} of {self.length} tokens, {self.gap} of them missing"
        return f"{what}; {self.fills} fill{'s' * (self.fills > 1)} each; vocabulary {self.vocabulary}"


@dataclass(frozen=True)
class Timed:
    """What one way takes.

    Attributes:
        way: its name.
        seconds: for one fill, the median of several rounds; None: left out, it would take too long.
        passes: forward passes that a fill took part in; of the gap alone where the evidence is read once.
        memory: bytes at the peak beyond what was held; None where the system does not tell.
        likelihood: of held-out gaps, where they were given and it is known.
    """

    way: str
    seconds: float | None
    passes: float | None
    memory: int | None = None
    likelihood: Likelihood | None = None


@dataclass(frozen=True)
class _Way:
    """A way to fill: how many rows go at once, and what fills so many of them and tells the passes of each."""

    rows: int
    run: Callable[[int], float]
    answers: int = 0


def networks(vocabulary: int, length: int, layers: int = 6, width: int = 256) -> tuple[Transformer, Transformer]:
    """A denoiser and its autoregressive twin with random weights in the shape of `stories`: seconds depend on no more.

    The last five ids are pad, mask, bos, eos and null.

    Raises:
        UserError: there is no room for content in the vocabulary.
    """
    if vocabulary < 8:
        raise UserError(f"a vocabulary of {vocabulary} tokens is too small: 8 or more")
    special = dict(zip(("pad", "mask", "bos", "eos", "null"), range(vocabulary - 5, vocabulary), strict=True))

    def network(causal: bool) -> Transformer:
        config = TransformerConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // 64),
            max_position_embeddings=length,
            causal=causal,
            pad_token_id=special["pad"],
            mask_token_id=special["mask"],
            bos_token_id=special["bos"],
            eos_token_id=special["eos"],
            null_token_id=special["null"],
        )
        return Transformer(config).eval()

    return network(False), network(True)


def vocabulary_of(network: Transformer) -> Vocabulary:
    """The vocabulary of a network without a tokenizer, in which every token is a character."""
    config, ids = network.config, torch.arange(network.config.vocab_size)
    never = [config.pad_token_id, config.mask_token_id, config.bos_token_id, config.eos_token_id]
    special = torch.isin(ids, torch.tensor([*never, config.null_token_id]))
    return Vocabulary(
        size=config.vocab_size,
        mask=config.mask_token_id,
        pad=config.pad_token_id,
        bos=config.bos_token_id,
        eos=config.eos_token_id,
        null=config.null_token_id,
        forbidden=torch.isin(ids, torch.tensor(never)),
        characters=(~special).long(),
        starts_word=ids < 0,
        breaks_line=ids < 0,
        ends_sentence=ids < 0,
    )


def random_canvas(vocabulary: Vocabulary, texts: int, length: int, gap: int, seed: int = 0) -> Canvas:
    """Texts of random content between bos and eos, with a gap in the middle.

    Raises:
        UserError: the gap does not fit.
    """
    if length < gap + 4:
        raise UserError(f"a text of {length} tokens has no room for a gap of {gap}: lengthen it")
    content = ((vocabulary.characters > 0) & ~vocabulary.forbidden).nonzero()[:, 0]
    tokens = content[torch.randint(len(content), (texts, length), generator=seeded(seed))]
    assert vocabulary.bos is not None and vocabulary.eos is not None
    tokens[:, 0], tokens[:, -1] = vocabulary.bos, vocabulary.eos
    start = (length - gap) // 2
    tokens[:, start : start + gap] = vocabulary.mask
    return Canvas.of(tokens, vocabulary.mask)


def overhead(
    vocabulary: int = 50_000,
    texts: int = 8,
    length: int = 128,
    gap: int = 32,
    steps: int = 8,
    rounds: int = 3,
    device: torch.device | str = "cpu",
) -> tuple[Timed, ...]:
    """What a step costs beside the network: the ways on a denoiser whose answers cost nothing.

    Returns:
        Of each way the seconds of a step of the whole batch, ours first.
    """
    law = torch.randn(texts * length, vocabulary, generator=seeded(0)).log_softmax(-1)
    law[:, vocabulary - 1] = -torch.inf
    law = law.to(device)
    v = Vocabulary.toy(vocabulary - 1).to(device)
    tokens = torch.randint(vocabulary - 1, (texts, length), generator=seeded(0))
    start = (length - gap) // 2
    tokens[:, start : start + gap] = v.mask
    canvas = Canvas.of(tokens, v.mask).to(device)

    class Free:
        def log_probs(
            self, canvas: Tensor, observed: Tensor, where: Tensor | None = None, null: bool = False
        ) -> Tensor:
            return law[: len(canvas) * length].view(-1, length, vocabulary) if where is None else law[: where.sum()]

    free = Free()
    whole = law.view(texts, length, vocabulary)

    def ours(policy: UnmaskingPolicy) -> Callable[[int], float]:
        return lambda seed: float(sample(free, canvas, v, policy, seeded(seed)).nfe[0])

    def theirs(loop: Callable[..., tuple[Tensor, int]], **options: Any) -> Callable[[int], float]:
        return lambda seed: loop(
            lambda x: whole, canvas.tokens, v.mask, steps, torch.Generator(device).manual_seed(seed), **options
        )[1]

    ways = {
        f"strided, {steps} steps": _Way(texts, ours(Strided(steps))),
        f"entropy, {steps} steps": _Way(texts, ours(Entropy(steps))),
        f"common loop, {steps} steps, random order": _Way(texts, theirs(common_loop)),
        f"common loop, {steps} steps, low confidence": _Way(texts, theirs(common_loop, order="low-confidence")),
        f"common loop, {steps} steps, low confidence, temperature 0": _Way(
            texts, theirs(common_loop, order="low-confidence", temperature=0.0)
        ),
        f"reuse when unchanged, {steps} steps": _Way(texts, theirs(reuse_loop)),
    }
    found = _measured(ways, rounds, torch.device(device))
    return tuple(replace(row, seconds=row.seconds * texts / steps) for row in found if row.seconds is not None)


def end_to_end(
    network: Transformer,
    twin: Transformer | None,
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
        twin: a causal network; None: leave out autoregression.
        vocabulary: of both.
        canvas: a gap in each row, of the same length in all.
        fills: of each row.
        steps: of this library's strided order; the first is also what its naive version takes.
        rival_steps: of the other loops.
        rounds: of which the median counts; one more warms up and tells the memory.
        most: seconds that a way may take in a round, as far as can be told in advance.
    """
    device, length = canvas.tokens.device, canvas.tokens.shape[1]
    rows, gap = len(canvas) * fills, int(canvas.slots[0].sum())
    whole = canvas.repeat(fills)
    ours, theirs = next(chunks(rows, gap)).stop, max(1, min(rows, ROOM // (length * vocabulary.size)))

    def strided(count: int, denoiser: Any, at_once: int) -> _Way:
        some = whole.select(torch.arange(at_once, device=device))
        return _Way(
            at_once,
            lambda seed: float(sample(denoiser, some, vocabulary, Strided(count), seeded(seed)).nfe[0]),
        )

    def rival(loop: Callable[..., tuple[Tensor, int]], count: int, **options: Any) -> _Way:
        tokens, observed = whole.tokens[:theirs], whole.observed[:theirs]

        def run(seed: int) -> float:
            dice = torch.Generator(device).manual_seed(seed)
            return loop(logits_of(network, observed), tokens, vocabulary.mask, count, dice, **options)[1]

        return _Way(theirs, run, theirs * length * vocabulary.size * count)

    ways = {f"strided, {count} steps": strided(count, network, ours) for count in steps}
    naive = max(1, min(rows, 2**14 // length))
    ways[f"naive: strided, {steps[0]} steps"] = strided(steps[0], Naive(network), naive)
    ways |= {f"common loop, {count} steps": rival(common_loop, count) for count in reference_steps}
    ways |= {f"reuse when unchanged, {count} steps": rival(reuse_loop, count) for count in reference_steps}
    if twin is not None:
        prior = AutoregressivePrior(twin, cast(Any, None), vocabulary)  # whose tokenizer nothing asks
        at_once = next(chunks(rows, length)).stop
        some = whole.select(torch.arange(at_once, device=device))
        ways["the twin, this library"] = _Way(at_once, lambda seed: float(prior.sample(some, seeded(seed)).nfe[0]))
        ways["the twin, transformers.generate"] = _Way(at_once, _generate(twin, some, gap))
    return _measured(ways, rounds, device, most)


def _generate(twin: Transformer, canvas: Canvas, gap: int) -> Callable[[int], float]:
    """`transformers.generate` on the text before the gap, padded on the left where it is shorter."""
    model, config = as_qwen(twin), twin.config
    start = canvas.slots.long().argmax(dim=1)
    longest = int(start.max())
    column = torch.arange(longest, device=start.device) - (longest - start)[:, None]
    known = column >= 0
    prefix = canvas.tokens.gather(1, column.clamp(min=0)).masked_fill(~known, config.pad_token_id)

    @torch.no_grad()
    def run(seed: int) -> float:
        torch.manual_seed(seed)  # generate knows no other
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


def _measured(ways: dict[str, _Way], rounds: int, device: torch.device, most: float = torch.inf) -> tuple[Timed, ...]:
    """Run the ways in turn; the first round warms up and tells passes and memory."""
    hopeless = {name for name, way in ways.items() if way.answers * SECONDS_PER_ANSWER > most}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    passes: dict[str, float] = {}
    memory: dict[str, int | None] = {}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            if name in hopeless:
                continue
            if not turn:
                with peak(device) as found:
                    passes[name] = way.run(turn)
                memory[name] = found.bytes
            else:
                start = _now(device)
                way.run(turn)
                seconds[name].append((_now(device) - start) / way.rows)
    return tuple(
        Timed(
            name,
            None if name in hopeless else statistics.median(seconds[name]),
            passes.get(name),
            memory.get(name),
        )
        for name in ways
    )


def _now(device: torch.device) -> float:
    """Seconds: of the processor's time on one CPU thread, so that other programs do not count, else of the wall's."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()
