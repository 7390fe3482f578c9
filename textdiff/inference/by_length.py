"""The length of a gap as a latent variable: its posterior from an estimate of the evidence at each length of a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
import torch
from torch import Generator, Tensor

from textdiff.errors import Impossible, UserError, by_the_user
from textdiff.files.fields import FUNCTION, Field, instance, several, whole
from textdiff.inference.fixed_length import FixedLength
from textdiff.inference.importance import Importance
from textdiff.posterior import Draws, Posterior, PosteriorSampler, WeightedSamples
from textdiff.samplers import LogProbKind
from textdiff.text import Canvas

GRID = 16
"""Lengths in a grid, at most, unless they are given."""
MOST_LENGTHS = 256
"""In a grid that is given."""


@final
@dataclass(frozen=True)
class ByLength(PosteriorSampler):
    """Weighted samples of several lengths n of a gap: p(n | y) is proportional to p(n) p(y | n).

    It needs no `null` token. Where the target has an exact joint, as an autoregressive prior or a world has, p(y | n)
    is the evidence that `method` estimates from the draws of that length. Under the distribution of a denoiser's own
    sampler every length has the evidence 1; there p(y | n) is that of the observed tokens nearest to the gap: up to
    `window` of them on either side are masked, too, and the weight of a draw is the sampler's probability of fill and
    window, over that of the fill alone.

    `diagnostics["length 5"]` is the posterior of 5 tokens; `length_log_probs` gives all of it.

    Args:
        lengths: the grid; None: all that the gap may have, or 16 of them, evenly spaced.
        method: how to draw fills of a length and estimate their evidence; None: `Importance()`.
        log_prior: log p(n) in nats, up to a constant; None: all lengths are alike.
        window: see above; only where the target is the denoiser's own sampler.
    """

    exactness: ClassVar[str] = "self-normalised over the lengths of the grid: exact as n grows"
    fields: ClassVar[Mapping[str, Field]] = {
        "lengths": several(whole(0), "whole numbers, 0 or more", MOST_LENGTHS).optional(),
        "method": instance(PosteriorSampler, "a method that estimates the evidence, such as SMC()").optional(),
        "log_prior": FUNCTION.optional(),
        "window": whole(0),
    }
    lengths: Sequence[int] | None = None
    method: PosteriorSampler | None = None
    log_prior: Callable[[int], float] | None = None
    window: int = 16

    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """Draw `n` weighted samples, as many of each length as of any other, or one more.

        Raises:
            UserError: not exactly one gap has an open length, fewer samples than lengths, a length that the gap cannot
                have, or a method that does not estimate the evidence.
        """
        gap, lengths = self._grid(posterior)
        if n < len(lengths):
            raise UserError(f"n is {n} for {len(lengths)} lengths: ask for a sample of each, or give fewer lengths")
        shares = [n // len(lengths) + (i < n % len(lengths)) for i in range(len(lengths))]
        parts, tokens, weights, log_q = [], [], [], []
        for length, share in zip(lengths, shares, strict=True):
            evidence = FixedLength(posterior, gap, length)
            try:
                part = self._of_length(evidence, share, generator)
            except Impossible:
                if len(lengths) == 1:
                    raise
                others = replace(self, lengths=[other for other in lengths if other != length])
                return others.draw(posterior, n, generator)
            prior = self._log_prior(length)
            parts.append(part)
            tokens.append(evidence.laid(part.tokens))
            weights.append(part.log_weights + prior + math.log(n / share))
            if part.log_q is not None:
                log_q.append(part.log_q + math.log(share / n))
        log_weights = torch.cat(weights)
        if (log_weights > -math.inf).any():
            mass = log_weights.softmax(0).split(shares)
        else:
            mass = tuple(torch.zeros(share) for share in shares)
        return Draws(
            tokens=torch.cat(tokens),
            log_weights=log_weights,
            log_q=torch.cat(log_q) if len(log_q) == len(parts) else None,
            nfe=torch.cat([part.nfe for part in parts]),
            label=f"{len(lengths)} lengths by their evidence, {parts[0].label}",
            kind=parts[0].kind,
            diagnostics={f"length {length}": float(m.sum()) for length, m in zip(lengths, mass, strict=True)},
        )

    def length_log_probs(self, posterior: Posterior, n: int, generator: Generator) -> Tensor:
        """log p(length | y) in nats, from `n` samples: float64 `[slots + 1]` for 0, 1, ...; -inf out of bounds.

        Between the lengths of a grid the log-probabilities are interpolated linearly, then normalised.
        """
        gap, lengths = self._grid(posterior)
        found = self.draw(posterior, n, generator).diagnostics
        shares = np.array([found.get(f"length {length}", 0.0) for length in lengths])
        every, possible = np.arange(int(posterior.canvas.maximum[0, gap]) + 1), shares > 0
        if not possible.any():
            raise Impossible("no draw of any length agrees with the evidence: draw more")
        log_probs = np.full(len(every), -np.inf)
        if self.lengths is None and lengths[-1] - lengths[0] >= len(lengths):
            log_probs = np.interp(every, np.array(lengths)[possible], np.log(shares[possible]), -np.inf, -np.inf)
        log_probs[lengths] = np.log(shares, where=possible, out=np.full(len(lengths), -np.inf))
        return torch.from_numpy(log_probs).log_softmax(0)

    def _log_prior(self, length: int) -> float:
        """What the user's prior says of a length, 0 without one."""
        if self.log_prior is None:
            return 0.0
        with by_the_user("log_prior"):
            found = float(self.log_prior(length))
        if math.isnan(found) or found == math.inf:
            raise UserError(f"log_prior gave {found} for {length} tokens: expected nats, or -inf to rule it out")
        return found

    def _grid(self, posterior: Posterior) -> tuple[int, list[int]]:
        """The gap whose length is open, and the lengths to try."""
        least, most = posterior.canvas.minimum[0].tolist(), posterior.canvas.maximum[0].tolist()
        open_ = [gap for gap, (low, high) in enumerate(zip(least, most, strict=True)) if low < high]
        if len(open_) != 1:
            raise UserError(f"{len(open_)} gaps have an open length, expected one: give the others exact lengths")
        low, high = least[open_[0]], most[open_[0]]
        if self.lengths is None:
            return open_[0], torch.linspace(low, high, min(GRID, high - low + 1)).round().long().unique().tolist()
        lengths = sorted(set(self.lengths))
        if not lengths or not low <= lengths[0] <= lengths[-1] <= high:
            raise UserError(f"the lengths are {list(self.lengths)}: expected some of {low} to {high}")
        return open_[0], lengths

    def _of_length(self, evidence: FixedLength, n: int, generator: Generator) -> WeightedSamples:
        """Weighted samples of one length, whose weights estimate its evidence."""
        whole = evidence.whole
        posterior = Posterior(whole.prior, evidence, whole.target)
        if whole.targets_own_sampler:
            if whole.prior.kind is not LogProbKind.EXACT or self.method is not None:
                raise UserError(
                    f"the evidence of a length under the distribution of {whole.prior.label} itself needs an order "
                    "that is a function of the canvas, such as 'strided', and no other method: or give target=, "
                    "whose joint weighs"
                )
            return posterior.sample(n, _BesideGap(evidence, self.window), generator=generator)
        drawn = posterior.sample(n, self.method or Importance(), generator=generator)
        if not drawn.has_evidence:
            raise UserError(f"{drawn.label} does not estimate the evidence: choose Importance() or SMC()")
        return drawn


@final
@dataclass(frozen=True)
class _BesideGap(PosteriorSampler):
    """Draws of one length, weighted by the sampler's own probability of the observed tokens beside the gap.

    Args:
        evidence: the length.
        window: observed tokens on either side of the gap that count.
    """

    exactness: ClassVar[str] = ByLength.exactness
    evidence: FixedLength
    window: int

    @torch.no_grad()
    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """Draw `n` fills; the weight of one is p(fill, window | rest) / p(fill | all)."""
        prior = posterior.prior
        fills = posterior.propose(n, generator)
        both = prior.score(self._widened(posterior.canvas).repeat(n), fills.tokens)
        assert both.log_q is not None and fills.log_q is not None
        weights = both.log_q - fills.log_q + posterior.log_likelihood(fills.tokens)
        return Draws(
            tokens=fills.tokens,
            log_weights=weights.masked_fill(weights.isnan(), -math.inf),
            log_q=fills.log_q,
            nfe=fills.nfe + both.nfe,
            label=prior.label,
            kind=prior.kind,
        )

    def _widened(self, canvas: Canvas) -> Canvas:
        """A canvas of one row whose gap takes in up to `window` observed tokens on either side, but bos and eos."""
        whole, gap = self.evidence.whole, self.evidence.gap
        start = int((whole.canvas.gap[0] == gap).nonzero()[0])
        stop = start + self.evidence.length
        free = canvas.observed[0].clone()
        free[[0, -1]] = False
        before = min(self.window, int(free[:start].flip(0).long().cumprod(dim=0).sum()))
        after = min(self.window, int(free[stop:].long().cumprod(dim=0).sum()))
        inside = slice(start - before, stop + after)
        tokens, observed, of, minimum = (
            x.clone() for x in (canvas.tokens, canvas.observed, canvas.gap, canvas.minimum)
        )
        tokens[0, inside], observed[0, inside], of[0, inside] = whole.prior.tokenizer.mask_token_id, False, gap
        minimum[0, gap] = inside.stop - inside.start
        return Canvas(tokens, observed, of, minimum, canvas.word_start)
