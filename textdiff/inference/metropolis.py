"""Markov chains that mask some slots again and redraw them: Metropolis-Hastings, and block Gibbs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from textdiff.errors import UserError
from textdiff.files.fields import PROBABILITY, Field, whole
from textdiff.posterior import Draws, Posterior, PosteriorSampler
from textdiff.samplers import LogProbKind
from textdiff.text import Canvas

SWEEPS = whole(1, 2**16)
"""Of a chain: each is a pass over the text, or several."""


@final
@dataclass(frozen=True)
class MetropolisHastings(PosteriorSampler):
    """`n` independent chains; a sweep masks some tokens, redraws them, and accepts with the exact ratio.

    Which slots are masked does not depend on their tokens: a random span or a random subset of the filled slots, or in
    a share of the sweeps all slots of all gaps, lengths included. The proposal and its reverse are denoised by the same
    policy, so both have an exact log-probability, and the posterior is invariant.

    Args:
        sweeps: for each chain.
        independent: share of the sweeps that redraw all gaps.
    """

    exactness: ClassVar[str] = "Markov chain that leaves the posterior invariant: exact as sweeps grow"
    fields: ClassVar[Mapping[str, Field]] = {"sweeps": SWEEPS, "independent": PROBABILITY}
    sweeps: int = 16
    independent: float = 0.25

    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """Draw `n` samples, the ends of `n` chains.

        Raises:
            UserError: an order that is no function of the canvas.
        """
        prior = posterior.prior
        if prior.kind is not LogProbKind.EXACT:
            raise UserError(
                f"{prior.label} has no exact log-probability: Metropolis-Hastings needs a policy whose order is a "
                "function of the canvas, such as 'strided'"
            )
        posterior.check_count(n, at_once=True)
        drawn = posterior.propose(n, generator)
        tokens, nfe, accepted = drawn.tokens, drawn.nfe, 0.0
        density, passes = posterior.log_density(tokens)
        nfe = nfe + passes
        for _ in range(self.sweeps):
            if torch.rand(1, generator=generator) < self.independent:
                canvas = posterior.canvas.repeat(n)
            else:
                canvas = masked_again(posterior, tokens, _some_slots(posterior, tokens, generator))
            there = prior.sample(canvas, generator)
            with torch.no_grad():
                back = prior.score(canvas, tokens)
            assert there.log_q is not None and back.log_q is not None
            new, passes = posterior.log_density(there.tokens)
            ratio = new - density + back.log_q - there.log_q
            ratio = ratio.where(density > -torch.inf, torch.zeros_like(ratio))  # leave a text without mass
            if there.log_excess is not None:
                ratio = ratio.masked_fill(there.log_excess == -torch.inf, -torch.inf)
            chance = torch.rand(n, generator=generator, dtype=torch.float64).to(ratio.device)
            accept = chance.log() < ratio
            tokens = torch.where(accept[:, None], there.tokens, tokens)
            density = torch.where(accept, new, density)
            nfe = nfe + there.nfe + back.nfe + passes
            accepted += float(accept.double().mean()) / self.sweeps
        return Draws(
            tokens=tokens,
            log_weights=torch.zeros_like(density).masked_fill(density == -torch.inf, -torch.inf),
            log_q=None,
            nfe=nfe,
            label=f"Metropolis-Hastings over {prior.label}, {self.sweeps} sweeps",
            kind=LogProbKind.NONE,
            has_evidence=False,
            diagnostics={"acceptance": accepted},
        )


@final
@dataclass(frozen=True)
class BlockGibbs(PosteriorSampler):
    """`n` independent chains; a sweep redraws each block of neighbouring slots given all other tokens.

    Gaps of open length keep the length that was first drawn.

    Args:
        sweeps: for each chain.
        block: number of slots that are redrawn at once.
    """

    exactness: ClassVar[str] = (
        "Gibbs: exact as sweeps grow, if the prior's draws of a block are those of one joint law (a world, or a "
        "perfect denoiser at one token per step) and lengths are given; a trained denoiser's are nearly so"
    )
    fields: ClassVar[Mapping[str, Field]] = {"sweeps": SWEEPS, "block": whole(1)}
    sweeps: int = 4
    block: int = 4

    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """Draw `n` samples, the ends of `n` chains.

        Raises:
            UserError: another target than the prior's own, or evidence with a likelihood.
        """
        if posterior.target is not posterior.prior or posterior.weighs:
            raise UserError(
                "block Gibbs accepts every draw, so it can neither aim at another target nor heed a likelihood: use "
                "MetropolisHastings()"
            )
        prior = posterior.prior
        posterior.check_count(n, at_once=True)
        drawn = posterior.propose(n, generator)
        tokens, nfe = drawn.tokens, drawn.nfe
        for _ in range(self.sweeps):
            number = _number(posterior, tokens)
            for first in range(0, int(number.max()) + 1, self.block):
                chosen = (number >= first) & (number < first + self.block)
                moved = prior.sample(masked_again(posterior, tokens, chosen), generator)
                tokens, nfe = moved.tokens, nfe + moved.nfe
        return Draws(
            tokens=tokens,
            log_weights=None,
            log_q=None,
            nfe=nfe,
            label=f"block Gibbs over {prior.label}, {self.sweeps} sweeps of blocks of {self.block}",
            kind=LogProbKind.NONE,
            has_evidence=False,
        )


def masked_again(posterior: Posterior, tokens: Tensor, chosen: Tensor) -> Canvas:
    """Complete texts `[n, length]` with some of their slots masked, as gaps of exact length."""
    canvas = Canvas.of(tokens.masked_fill(chosen, posterior.prior.vocabulary.mask), posterior.prior.vocabulary.mask)
    word_start = posterior.canvas.word_start & chosen
    dfa = posterior.canvas.dfa
    return Canvas(canvas.tokens, canvas.observed, canvas.gap, canvas.minimum, word_start, dfa)


def _number(posterior: Posterior, tokens: Tensor) -> Tensor:
    """Number of each slot among those of its row that hold a token, -1 elsewhere, `[n, length]`."""
    filled = posterior.canvas.slots.expand_as(tokens)
    if (null := posterior.prior.vocabulary.null) is not None:
        filled = filled & (tokens != null)
    return torch.where(filled, filled.cumsum(dim=1) - 1, -1)


def _some_slots(posterior: Posterior, tokens: Tensor, generator: Generator) -> Tensor:
    """A random span, or as often a random subset, of the filled slots of each row; at least one where there is any."""
    n, device = len(tokens), tokens.device
    number = _number(posterior, tokens)
    size = number.amax(dim=1) + 1
    spans, start, length = torch.rand(3, n, generator=generator, dtype=torch.float64).to(device)
    many = (1 + (length * size).long()).clamp(max=size)
    first = (start * (size - many + 1)).long()
    span = (number >= first[:, None]) & (number < (first + many)[:, None])
    noise = torch.rand(tokens.shape, generator=generator, dtype=torch.float64).to(device)
    order = noise.masked_fill(number < 0, torch.inf).argsort(dim=1).argsort(dim=1)
    subset = (order < many[:, None]) & (number >= 0)
    return torch.where((spans < 0.5)[:, None], span, subset)
