"""Gaps of unknown length: one forward pass of the denoiser gives the distribution of their lengths, which are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from textdiff.denoisers import CachedDenoiser, Denoiser
from textdiff.errors import UserError
from textdiff.samplers.categorical import categorical, without
from textdiff.samplers.constrained import Constrained
from textdiff.samplers.lengths import by_gap, count_tokens, length_log_probs, rank_and_size
from textdiff.samplers.random_streams import Streams
from textdiff.samplers.tempering import Tempering
from textdiff.samplers.trajectory import GivenTokens
from textdiff.text import Canvas, Vocabulary

NO_NULL = "the vocabulary has no null token for a gap of unknown length: give the length, as in [gap:8]"


@dataclass(frozen=True, eq=False)
class ClosedGaps:
    """A canvas whose gaps have their lengths.

    Attributes:
        tokens: `[batch, length]`, null in unused slots.
        gap: number of the gap of each slot, -1 elsewhere and in unused slots, likewise.
        log_q: float64 `[batch]`, the lengths' log-probability without the canvas's constraint.
        log_excess: float64 `[batch]`, by how much it exceeds their log-probability under the constraint.
        nfe: `[batch]`, forward passes spent; 0 in rows whose lengths were known.
    """

    tokens: Tensor
    gap: Tensor
    log_q: Tensor
    log_excess: Tensor
    nfe: Tensor


def close_gaps(
    denoiser: CachedDenoiser,
    canvas: Canvas,
    vocabulary: Vocabulary,
    streams: Streams,
    given: GivenTokens | None,
    temperature: float,
) -> ClosedGaps:
    """Draw the lengths of all gaps of unknown length, with call number 0 of the rows' random streams.

    Raises:
        UserError: there is no `null` in the vocabulary.
        ValueError: a gap's minimum is above its number of slots.
    """
    tokens, gap = canvas.tokens.clone(), canvas.gap.clone()
    log_q = torch.zeros(len(canvas), dtype=torch.float64, device=tokens.device)
    nfe = torch.zeros(len(canvas), dtype=torch.long, device=tokens.device)
    if (canvas.minimum > canvas.maximum).any():
        raise ValueError("a gap's minimum is above its number of slots")
    rows = (canvas.minimum < canvas.maximum).any(dim=1).nonzero()[:, 0]
    if not len(rows):
        return ClosedGaps(tokens, gap, log_q, log_q, nfe)
    null = vocabulary.null
    if null is None:
        raise UserError(NO_NULL, python=", or draw with ByLength()")

    minimum, slots, where = canvas.minimum[rows], gap[rows], canvas.slots[rows]
    log_probs = denoiser.log_probs(rows, tokens[rows], where, null=True, alike=True)
    log_probs = without(log_probs, vocabulary.forbidden)
    of_lengths = Tempering(temperature)(length_log_probs(log_probs, null, slots, minimum))
    noise, _ = streams.uniforms(rows, nfe[rows])
    given_lengths, follows = None, None
    if given is not None:
        given_lengths = count_tokens(given.tokens[rows][where], null, slots, minimum.shape[1])
        follows = given.rows[rows]
    log_excess = torch.zeros_like(log_q)
    if canvas.dfa is None:
        first = by_gap(noise[where], slots, minimum.shape[1])[..., 0]
        lengths = categorical(of_lengths.detach().flatten(0, 1), first.flatten()).view_as(minimum)
        if given_lengths is not None and follows is not None:
            lengths = torch.where(follows[:, None], given_lengths, lengths)
        length_log_q = of_lengths.gather(2, lengths[..., None]).sum(dim=(1, 2))
    else:
        inside_word = canvas.word_start[rows][where][:, None] & ~vocabulary.starts_word
        inside_word[:, null] = False
        constrained = Constrained(canvas.dfa, tokens[rows], where, log_probs.masked_fill(inside_word, -torch.inf))
        lengths, constrained_log_q = constrained.lengths(slots, of_lengths, null, noise, given_lengths, follows)
        length_log_q = of_lengths.gather(2, lengths[..., None]).sum(dim=(1, 2))
        excess = (length_log_q - constrained_log_q).where(constrained_log_q > -torch.inf, -torch.inf)
        log_excess = log_excess.index_add(0, rows, excess)
    unused = where & (rank_and_size(slots)[0] >= lengths.gather(1, slots.clamp(min=0)))
    tokens[rows], gap[rows] = tokens[rows].masked_fill(unused, null), slots.masked_fill(unused, -1)
    nfe[rows] = denoiser.passes(null=True)
    return ClosedGaps(tokens, gap, log_q.index_add(0, rows, length_log_q), log_excess, nfe)


@torch.no_grad()
def null_length_log_probs(denoiser: Denoiser, canvas: Canvas, vocabulary: Vocabulary) -> Tensor:
    """Log-probabilities of the number of tokens in each gap as `sample` draws it: float64 `[batch, gaps, longest + 1]`.

    Raises:
        UserError: there is no `null` in the vocabulary.
    """
    if (null := vocabulary.null) is None:
        raise UserError(NO_NULL, python=", or draw with ByLength()")
    log_probs = denoiser.log_probs(canvas.tokens, canvas.observed, canvas.slots, null=True)
    forbidden = vocabulary.to(canvas.tokens.device).forbidden
    return length_log_probs(without(log_probs, forbidden), null, canvas.gap, canvas.minimum)
