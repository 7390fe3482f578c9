"""Fills that are written from left to right, all rows side by side: drawn, steered as particles, or searched."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from textdiff.models.prefix_cache import PrefixCache
from textdiff.samplers.categorical import NEUTRAL, Streams, Tempering, categorical
from textdiff.samplers.denoise import Progress, Steer, Trajectory, Watch
from textdiff.samplers.policies.policy import LogProbKind
from textdiff.text import Canvas


@dataclass(frozen=True, eq=False)
class NextDraw:
    """Rows that take part in the next draw.

    Attributes:
        rows: `[asked]`.
        home: `[asked]`, the column of the canvas that each row fills, unless it draws the end of its gap.
        law: log-probabilities `[asked, vocab]`, float64.
    """

    rows: Tensor
    home: Tensor
    law: Tensor


class CausalDecoding(ABC):
    """A batch of fills on its way. `ask` for the next draw, then `write` what was drawn; until there is no more.

    Attributes:
        tokens: the canvas `[batch, length]`, filled so far; null in slots that will stay unused.
        masked: bool `[batch, length]`, slots that are still open.
        length_log_q: float64 `[batch]`, log-probability of lengths that were drawn beforehand, and of ends.
        slot_log_q: float64 `[batch, length]`, that of each token.
        nfe: `[batch]`, draws.
    """

    def __init__(self, canvas: Canvas, reader: PrefixCache) -> None:
        self.canvas, self.reader = canvas, reader
        self.tokens, self.masked = canvas.tokens.clone(), canvas.slots.clone()
        self.slot_log_q = torch.zeros(self.tokens.shape, dtype=torch.float64, device=self.tokens.device)
        self.length_log_q, self.nfe = self.slot_log_q.new_zeros(len(canvas)), torch.zeros_like(self.tokens[:, 0])

    @abstractmethod
    def ask(self) -> NextDraw | None:
        """Who draws next, and from which law; None if all is written. Asking again changes nothing."""

    @abstractmethod
    def following(self, ask: NextDraw, texts: Tensor) -> Tensor:
        """What each asked row draws if it is to become its complete text in `texts [batch, length]`: `[asked]`."""

    @abstractmethod
    def write(self, ask: NextDraw, values: Tensor) -> Tensor:
        """Take the `values [asked]` that were drawn; returns the slots that were settled, bool `[batch, length]`."""

    def select(self, parents: Tensor) -> None:
        """Go on from copies of the rows `parents [batch]`."""
        self.tokens, self.masked, self.slot_log_q = (x[parents] for x in (self.tokens, self.masked, self.slot_log_q))
        self.length_log_q, self.nfe = self.length_log_q[parents], self.nfe[parents]
        self.reader.select(parents)

    @property
    def log_q(self) -> Tensor:
        """Log-probability of what has been drawn, float64 `[batch]`."""
        return self.length_log_q + self.slot_log_q.sum(dim=1)

    def settle(self, rows: Tensor, slots: Tensor, values: Tensor, scores: Tensor) -> Tensor:
        """Write `values` with their log-probabilities into columns `slots` of `rows`; returns where, as a mask."""
        self.tokens[rows, slots], self.slot_log_q[rows, slots] = values, scores
        self.masked[rows, slots] = False
        settled = torch.zeros_like(self.masked)
        settled[rows, slots] = True
        return settled


@torch.no_grad()
@torch.compiler.set_stance("force_eager")  # each pass has another length: compiling would not end
def decode_causally(
    writing: CausalDecoding,
    streams: Streams,
    tempering: Tempering = NEUTRAL,
    watch: Watch | None = None,
    steer: Steer | None = None,
    retained: Tensor | None = None,
    forced: Tensor | None = None,
) -> Trajectory:
    """Draw all fills to their ends.

    Args:
        writing: the fills.
        streams: random numbers of each place in the batch; number 0 of each slot may have been used for lengths.
        tempering: sharpens each draw.
        watch: called after each draw with the canvas `[batch, length]` and the slots it settled.
        steer, retained, forced: see `textdiff.samplers.steered`.
    """
    everybody = torch.arange(len(writing.tokens), device=writing.tokens.device)
    noise = streams.uniforms(everybody, torch.ones_like(everybody))[0]
    while True:
        if steer is not None:
            zeros = torch.zeros_like(writing.length_log_q)  # nothing is constrained here
            progress = Progress(writing.tokens, writing.masked, writing.slot_log_q, writing.length_log_q, zeros, zeros)
            parents = steer(progress)
            if parents is not None:
                writing.select(parents)
        ask = writing.ask()
        if ask is None:
            break
        law = tempering(ask.law)
        values = categorical(law, noise[ask.rows, ask.home])
        if retained is not None and forced is not None:
            values = torch.where(forced[ask.rows], writing.following(ask, retained), values)
        settled = writing.write(NextDraw(ask.rows, ask.home, law), values)
        if watch is not None and settled.any():
            watch(writing.tokens.clone(), settled)
    return Trajectory(writing.tokens, writing.log_q, LogProbKind.EXACT, writing.nfe, writing.nfe.clone())
