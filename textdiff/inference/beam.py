"""Search in place of sampling: beam search over an autoregressive sampler, and the best of several draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator

from textdiff.errors import UserError
from textdiff.files.fields import Field, whole
from textdiff.inference.importance import log_weights
from textdiff.posterior import DecodesCausally, Draws, Posterior, PosteriorSampler
from textdiff.samplers import LogProbKind, Streams

MOST_OFFERS = 2**26
"""Continuations that a beam compares at once: 512 MiB of them."""


@final
@dataclass(frozen=True)
class Beam(PosteriorSampler):
    """The likeliest fills of an autoregressive sampler, likeliest first, by beam search.

    Args:
        width: partial fills that are kept after each token; 1 is greedy.
    """

    exactness: ClassVar[str] = "none: a search for the mode of the sampler's law, no posterior samples"
    fields: ClassVar[Mapping[str, Field]] = {"width": whole(1)}
    width: int = 8

    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """The `n` likeliest of the `width` fills at the end; nothing is drawn at random.

        Raises:
            UserError: `n` is above `width`, the prior does not go from left to right, or it draws lengths beforehand.
        """
        prior = posterior.prior
        if not 1 <= n <= self.width:
            raise UserError(f"n is {n} and the beam {self.width} wide: ask for at most as many fills as it is wide")
        if not isinstance(prior, DecodesCausally):
            raise UserError(f"a beam goes from left to right, {prior.label} does not: give an autoregressive prior")
        if posterior.weighs or posterior.target is not prior:
            raise UserError("a beam follows the sampler's own law: leave out target and likelihood, or use BestOf()")
        posterior.check_count(self.width, "width", at_once=True)
        if self.width * prior.vocabulary.size > MOST_OFFERS:
            raise UserError(
                f"width is {self.width}: with {prior.vocabulary.size} tokens to choose from, at most "
                f"{MOST_OFFERS // prior.vocabulary.size} fills are kept"
            )
        canvas = posterior.canvas.repeat(self.width)
        if prior.draws_lengths and (canvas.minimum < canvas.maximum).any():
            raise UserError(
                "a beam cannot compare lengths that are drawn beforehand: give exact lengths, as in [gap:12]"
            )
        with torch.no_grad():
            decoding = prior.causal_decoding(canvas, Streams.of(generator, canvas.slots))
            handicap = torch.zeros_like(decoding.progress.log_q)
            handicap[1:] = -torch.inf
            while (draw := decoding.next_draw()) is not None:  # at first all are alike, so all but one are out
                total = handicap + decoding.progress.log_q
                offers = total.new_full((self.width, draw.log_probs.shape[1]), -torch.inf)
                offers[:, 0] = total
                offers[draw.rows] = total[draw.rows, None] + draw.log_probs
                best, place = offers.flatten().topk(self.width)
                parents, values = place // offers.shape[1], place % offers.shape[1]
                decoding.select(parents)
                handicap = torch.zeros_like(best).masked_fill(best == -torch.inf, -torch.inf)
                again = decoding.next_draw()
                if again is not None:
                    decoding.record(again, values[again.rows])
        progress = decoding.progress
        order = (handicap + progress.log_q).argsort(descending=True, stable=True)[:n]
        return Draws(
            tokens=progress.tokens[order],
            log_weights=handicap[order],
            log_q=progress.log_q[order],
            nfe=progress.nfe[order],
            label=f"beam of {self.width} over {prior.label}",
            target="the likeliest fills",
            has_evidence=False,
            kind=posterior.prior.kind,
        )


@final
@dataclass(frozen=True)
class BestOf(PosteriorSampler):
    """The draw with the largest weight, target over proposal, out of several: `n` times.

    For an autoregressive prior with its own joint as the target, the weight is the probability of the text after the
    gap.

    Args:
        draws: number that each fill is chosen from.
    """

    exactness: ClassVar[str] = (
        "none: it seeks what the weights favour, no posterior samples; `Importance` weighs instead"
    )
    fields: ClassVar[Mapping[str, Field]] = {"draws": whole(1)}
    draws: int = 16

    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """`n` fills, each the best of as many draws.

        Raises:
            UserError: more draws than `Posterior.check_count` allows, or the draws or the target have no density.
        """
        posterior.check_count(n * self.draws, "n x draws")
        drawn = posterior.propose(n * self.draws, generator)
        weights, passes = log_weights(posterior, drawn)
        weights = weights.view(n, self.draws)
        best = weights.argmax(dim=1) + self.draws * torch.arange(n, device=weights.device)
        alive = (weights > -torch.inf).any(dim=1)
        return Draws(
            tokens=drawn.tokens[best],
            log_weights=torch.zeros(n, dtype=torch.float64).masked_fill(~alive.cpu(), -torch.inf),
            log_q=None,
            nfe=drawn.nfe.view(n, self.draws).sum(dim=1) + passes * self.draws,
            label=f"best of {self.draws} draws, {posterior.prior.label}",
            target=f"the mode of: {posterior.description}",
            kind=LogProbKind.NONE,
            has_evidence=False,
        )
