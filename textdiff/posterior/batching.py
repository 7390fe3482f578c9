"""Fills of many different texts in common batches."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from textdiff.errors import UserError
from textdiff.posterior.posterior import MOST_TOKENS, Conditioning, Posterior, chunks
from textdiff.posterior.samples import WeightedSamples, seeded
from textdiff.samplers import NEUTRAL, Tempering, Trajectory, row_seeds
from textdiff.text import Canvas


def infill_batch(
    posteriors: Sequence[Posterior], n: int, seeds: Sequence[int], tempering: Tempering = NEUTRAL
) -> list[WeightedSamples]:
    """Sample all posteriors in common batches: `posterior.sample(n, Conditioning(tempering), generator=seed)` of each.

    Each row draws from the random stream that it would have alone, so the fills are the same, up to the rounding of
    batched arithmetic.

    Args:
        posteriors: of one prior, none with constraints or a likelihood.
        n: fills of each.
        seeds: one for each posterior.
        tempering: sharpens each draw.

    Raises:
        UserError: a seed is out of range, the fills are too many (see `Posterior.check_count`), or a text does not fit
            into the network beside the others.
    """
    if not posteriors:
        return []
    started = time.perf_counter()
    prior, vocabulary = posteriors[0].prior, posteriors[0].prior.vocabulary
    assert all(posterior.prior is prior and not posterior.weighs for posterior in posteriors)
    assert vocabulary.pad is not None
    for posterior in posteriors:
        posterior.check_count(n)
    if n * len(posteriors) * max(posterior.canvas.tokens.shape[1] for posterior in posteriors) > MOST_TOKENS:
        raise UserError(f"n is {n}: {len(posteriors)} texts at once are too many for so many fills, give fewer texts")
    canvas = Canvas.stack([posterior.canvas.repeat(n) for posterior in posteriors], vocabulary.pad)
    streams = torch.cat([row_seeds(seeded(seed), n) for seed in seeds])
    parts = []
    for rows in chunks(len(canvas), canvas.tokens.shape[1]):
        some = torch.arange(rows.start, rows.stop)
        parts.append(prior.sample(canvas.select(some), streams[rows], tempering=tempering))
    found, drawn_rows = [], Trajectory.cat(parts)
    for number, posterior in enumerate(posteriors):
        own = slice(number * n, (number + 1) * n)
        draws = Conditioning.draws(posterior, drawn_rows.rows(own, posterior.canvas.tokens.shape[1]))
        seconds = time.perf_counter() - started
        found.append(posterior.weighted_samples(draws, Conditioning.exactness, seconds))
    return found
