"""The laws of an unmasking policy: it fills every slot, and its log-probabilities are of the kind that it declares."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from textdiff.samplers import LogProbKind, UnmaskingPolicy, path_log_prob, sample
from textdiff.testing.enumeration import enumerate_fills, frequencies, iid_noise, total_variation
from textdiff.testing.tables import TableDenoiser
from textdiff.text import Canvas, Vocabulary

TOLERANCE = 1e-9
"""On sums of float64 probabilities."""


@dataclass(frozen=True)
class PolicyReport:
    """What `check_policy` found.

    Attributes:
        kind: what the policy declares of its log-probabilities.
        total: sum of q over all fills; for kind "given-order" given one order; None for kind "none".
        distance: total variation between the frequencies of the draws and q; None unless the kind is "exact".
        noise: the same of as many iid draws from q.
        steps: most steps that a draw took.
    """

    kind: LogProbKind
    total: float | None
    distance: float | None
    noise: float | None
    steps: int


def check_policy(
    policy: UnmaskingPolicy, *, symbols: int = 3, slots: int = 4, draws: int = 4000, seed: int = 0, factor: float = 1.5
) -> PolicyReport:
    """Check a policy with a denoiser whose answers are known but belong to no joint distribution, the hardest case.

    All policies: draws leave no mask, stay off forbidden tokens, keep the evidence, and do not depend on the other rows
    of the batch. Kind "exact": the probabilities of all fills sum to 1, a draw's own log q is the one that it is scored
    with, and frequencies agree with q within `factor` times the noise of iid draws. Kind "given-order": the sum holds
    given each order. Kind "none": draws carry no log q.

    Args:
        policy: the policy.
        symbols, slots: size of the case: `symbols ** slots` fills are enumerated.
        draws: fills drawn to compare frequencies.
        seed: of the denoiser and the draws.
        factor: how far the frequencies may be from q, in units of the noise of iid draws.

    Raises:
        AssertionError: a law does not hold; the message has the figures.
    """
    name = type(policy).__name__
    denoiser, vocabulary = TableDenoiser(symbols, slots + 1, seed), Vocabulary.toy(symbols)
    tokens = torch.full((1, slots + 1), vocabulary.mask)
    tokens[0, slots // 2] = 0  # evidence in the middle: two gaps
    canvas = Canvas.of(tokens, vocabulary.mask)
    drawn = sample(denoiser, canvas.repeat(draws), vocabulary, policy, Generator().manual_seed(seed))
    observed = canvas.observed[0]
    assert bool((drawn.tokens[:, observed] == canvas.tokens[0, observed]).all()), f"{name} changes the evidence"
    assert not bool(vocabulary.forbidden[drawn.tokens].any()), (
        f"{name} leaves masked slots, or fills in forbidden tokens"
    )
    _check_rows(policy, denoiser, canvas, vocabulary, seed)
    every, steps = enumerate_fills(canvas, vocabulary), int(drawn.steps.max())
    if drawn.kind is LogProbKind.NONE:
        assert drawn.log_q is None, f"{name} declares no log q, and its draws carry one"
        return PolicyReport(drawn.kind, None, None, None, steps)
    assert drawn.log_q is not None, f"{name} declares log q to be {drawn.kind}, and its draws carry none"
    q = _score(policy, denoiser, canvas, vocabulary, every, seed).exp()
    total = float(q.sum())
    assert abs(total - 1) < TOLERANCE, f"{name}: the probabilities of all fills sum to {total}, expected 1"
    if drawn.kind is not LogProbKind.EXACT:
        return PolicyReport(drawn.kind, total, None, None, steps)
    scored = _score(policy, denoiser, canvas, vocabulary, drawn.tokens, seed)
    off = float((scored - drawn.log_q).abs().max())
    assert off < 1e-8, f"{name}: draws are scored {off} nats off their own log q; does it look at the drawn tokens?"
    distance, noise = total_variation(frequencies(drawn.tokens, every), q), iid_noise(q, draws)
    assert distance < factor * noise, (
        f"{name}: frequencies are {distance:.4f} from q in total variation, iid draws {noise:.4f}: log q is not exact"
    )
    return PolicyReport(drawn.kind, total, distance, noise, steps)


def _score(
    policy: UnmaskingPolicy, denoiser: TableDenoiser, canvas: Canvas, vocabulary: Vocabulary, tokens: Tensor, seed: int
) -> Tensor:
    """Log q of each of `tokens [n, length]`; with a random order, of the same order for all."""
    canvases = canvas.repeat(len(tokens))
    if policy.kind is LogProbKind.EXACT:
        scored = path_log_prob(denoiser, canvases, vocabulary, policy, tokens).log_q
        assert scored is not None
        return scored
    parts = []
    for row in tokens[:, None]:  # a generator in the same state draws the same order
        generator = Generator().manual_seed(seed)
        part = path_log_prob(denoiser, canvas, vocabulary, policy, row, generator=generator).log_q
        assert part is not None
        parts.append(part)
    return torch.cat(parts)


def _check_rows(
    policy: UnmaskingPolicy, denoiser: TableDenoiser, canvas: Canvas, vocabulary: Vocabulary, seed: int
) -> None:
    """A row's draw is the same alone and among others."""
    seeds = torch.arange(seed, seed + 8)
    batch = sample(denoiser, canvas.repeat(8), vocabulary, policy, seeds)
    alone = [sample(denoiser, canvas, vocabulary, policy, seeds[i : i + 1]).tokens for i in range(8)]
    assert bool((batch.tokens == torch.cat(alone)).all()), f"{type(policy).__name__}: a row depends on its neighbours"
