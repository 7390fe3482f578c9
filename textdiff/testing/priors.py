"""The laws of a prior: it keeps the evidence, its log q is that of its draws, and rows do not depend on each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from textdiff.posterior import Prior
from textdiff.samplers import LogProbKind
from textdiff.testing.enumeration import MOST_FILLS, enumerate_fills


@dataclass(frozen=True)
class PriorReport:
    """What `check_prior` found.

    Attributes:
        kind: what the prior declares of its log-probabilities.
        off: largest difference between a draw's own log q and the one that it is scored with, nats; None unless the
            kind is "exact".
        total: sum of q over all fills; None where they are too many to enumerate or the kind is not "exact".
    """

    kind: LogProbKind
    off: float | None
    total: float | None


def check_prior(
    prior: Prior, text: str, *, draws: int = 64, seed: int = 0, tolerance: float = 1e-4, enumerate: bool | None = None
) -> PriorReport:
    """Check how a prior fills the gaps of one text.

    Draws keep the evidence, leave no mask, and stay within each gap's bounds; the same seeds give the same fills, alone
    or in a batch; a draw's log q is the one that `score` gives to it; and where all fills can be enumerated, their
    probabilities sum to 1.

    Args:
        prior: the prior.
        text: a template, see `Prior.infill`; with a gap of one or two tokens all fills are enumerated.
        draws: fills to draw.
        seed: of the draws.
        tolerance: on log q in nats and on the sum; that of float32 arithmetic in batches of different shapes.
        enumerate: whether to sum over all fills; None: if they are at most 131,072.

    Raises:
        AssertionError: a law does not hold; the message has the figures.
    """
    canvas, vocabulary = prior.given(text).canvas, prior.vocabulary
    seeds = torch.arange(seed, seed + draws)
    drawn = prior.sample(canvas.repeat(draws), seeds)
    observed = canvas.observed[0]
    assert bool((drawn.tokens[:, observed] == canvas.tokens[0, observed]).all()), "a draw changes the evidence"
    assert not bool((drawn.tokens == vocabulary.mask).any()), "a draw leaves masked slots"
    for gap in range(canvas.minimum.shape[1]):
        inside = drawn.tokens[:, canvas.gap[0] == gap]
        lengths = inside.shape[1] - (inside == vocabulary.null).sum(dim=1) if vocabulary.null is not None else None
        if lengths is not None:
            least = int(canvas.minimum[0, gap])
            assert int(lengths.min()) >= least, (
                f"gap {gap} has {int(lengths.min())} tokens, at least {least} are asked for"
            )
    again = prior.sample(canvas.repeat(draws), seeds)
    assert bool((again.tokens == drawn.tokens).all()), "the same seeds give other fills"
    alone = torch.cat([prior.sample(canvas, seeds[i : i + 1]).tokens for i in range(min(draws, 8))])
    assert bool((alone == drawn.tokens[: len(alone)]).all()), "a fill depends on the other rows of its batch"
    if drawn.kind is not LogProbKind.EXACT:
        assert (drawn.log_q is None) == (drawn.kind is LogProbKind.NONE), f"log q does not fit the kind {drawn.kind}"
        return PriorReport(drawn.kind, None, None)
    scored = prior.score(canvas.repeat(draws), drawn.tokens).log_q
    assert drawn.log_q is not None and scored is not None, "the kind is exact, and there is no log q"
    off = float((scored - drawn.log_q).detach().abs().max())
    assert off < tolerance, f"draws are scored {off} nats off their own log q"
    ids, count = int((~vocabulary.forbidden).sum()), int(canvas.slots.sum())
    if not (ids**count <= MOST_FILLS if enumerate is None else enumerate):
        return PriorReport(drawn.kind, off, None)
    total = 0.0
    for part in enumerate_fills(canvas, vocabulary).split(1024):
        with torch.no_grad():
            q = prior.score(canvas.repeat(len(part)), part).log_q
        assert q is not None
        total += float(q.exp().sum())
    assert abs(total - 1) < tolerance, f"the probabilities of all fills sum to {total}, expected 1"
    return PriorReport(drawn.kind, off, total)
