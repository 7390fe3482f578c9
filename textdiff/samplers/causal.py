"""Causal decoding: fills that are drawn from left to right, all rows side by side, or searched for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from textdiff.models.eager import eager
from textdiff.models.prefix_cache import PrefixCache
from textdiff.samplers.categorical import categorical
from textdiff.samplers.decoder import Decoder, run
from textdiff.samplers.policies.policy import LogProbKind
from textdiff.samplers.random_streams import Streams
from textdiff.samplers.tempering import NEUTRAL, Tempering
from textdiff.samplers.trajectory import GivenTokens, Progress, Steer, Trajectory, Watch
from textdiff.text import Canvas


@dataclass(frozen=True, eq=False)
class NextDraw:
    """The rows that take part in the next draw.

    Attributes:
        rows: `[asked]`.
        columns: `[asked]`, the slot of the canvas that each row fills, unless it draws the end of its gap.
        log_probs: `[asked, vocab]`.
    """

    rows: Tensor
    columns: Tensor
    log_probs: Tensor


class CausalDecoding(ABC):
    """A batch of fills that grow token by token: ask for the `next_draw`, then `record` what was drawn.

    Attributes:
        canvas: the batch.
        prefix_cache: the network's states before each column.
        progress: the fills so far. Log-probabilities of ends that were drawn count among those of the lengths.
    """

    def __init__(self, canvas: Canvas, prefix_cache: PrefixCache) -> None:
        self.canvas, self.prefix_cache = canvas, prefix_cache
        slot_log_q = torch.zeros(canvas.tokens.shape, dtype=torch.float64, device=canvas.tokens.device)
        none = torch.zeros_like(canvas.tokens[:, 0])
        length_log_q = slot_log_q.new_zeros(len(canvas))
        self.progress = Progress(
            canvas.tokens.clone(), canvas.slots.clone(), length_log_q, slot_log_q, none, none.clone()
        )

    @abstractmethod
    def next_draw(self) -> NextDraw | None:
        """Which rows draw next, and from what; None once all are complete. Asking again changes nothing."""

    @abstractmethod
    def given_values(self, draw: NextDraw, texts: Tensor) -> Tensor:
        """What each row of a draw must draw to become its complete text in `texts [batch, length]`: `[asked]`."""

    @abstractmethod
    def record(self, draw: NextDraw, values: Tensor) -> Tensor:
        """Take the `values [asked]` that were drawn; returns the slots that were settled, bool `[batch, length]`."""

    @abstractmethod
    def selected(self, rows: Tensor) -> None:
        """Called when the batch has become copies of these of its rows, for what else is kept of them."""

    def select(self, rows: Tensor) -> None:
        """Continue with copies of the rows `[batch]`."""
        self.progress = self.progress.select(rows)
        self.prefix_cache.select(rows)
        self.selected(rows)

    def settle(self, rows: Tensor, columns: Tensor, values: Tensor, scores: Tensor) -> Tensor:
        """Put `values` and their log-probabilities into `columns` of `rows`; returns where, bool `[batch, length]`."""
        progress = self.progress
        progress.tokens[rows, columns], progress.slot_log_q[rows, columns] = values, scores.double()
        progress.masked[rows, columns] = False
        settled = torch.zeros_like(progress.masked)
        settled[rows, columns] = True
        return settled


@torch.no_grad()
@eager
def decode_causally(
    decoding: CausalDecoding,
    streams: Streams,
    *,
    tempering: Tempering = NEUTRAL,
    watch: Watch | None = None,
    steer: Steer | None = None,
    given_tokens: GivenTokens | None = None,
) -> Trajectory:
    """Draw all fills to their ends.

    Args:
        decoding: the fills.
        streams: random numbers of each place in the batch; call number 0 is free for lengths.
        tempering: sharpens each draw.
        watch: called after each draw with the canvas `[batch, length]` and the slots it settled.
        steer, given_tokens: see `textdiff.samplers.steered`.
    """
    return run(_CausalDecoder(decoding, streams, tempering, given_tokens), watch, steer)


@final
class _CausalDecoder(Decoder):
    """Draws every next token of a `CausalDecoding`, or takes the given one."""

    def __init__(
        self, decoding: CausalDecoding, streams: Streams, tempering: Tempering, given: GivenTokens | None
    ) -> None:
        self._decoding, self._tempering, self._given = decoding, tempering, given
        rows = torch.arange(len(streams.seeds), device=streams.seeds.device)
        self._noise = streams.uniforms(rows, torch.ones_like(rows))[0]

    @property
    def progress(self) -> Progress:
        return self._decoding.progress

    def select(self, rows: Tensor) -> None:
        self._decoding.select(rows)

    def step(self) -> Tensor:
        draw = self._decoding.next_draw()
        assert draw is not None
        draw = replace(draw, log_probs=self._tempering(draw.log_probs))
        values = categorical(draw.log_probs, self._noise[draw.rows, draw.columns])
        if self._given is not None:
            given = self._decoding.given_values(draw, self._given.tokens)
            values = torch.where(self._given.rows[draw.rows], given, values)
        return self._decoding.record(draw, values)

    def trajectory(self) -> Trajectory:
        progress = self.progress
        return Trajectory(progress.tokens, progress.log_q, LogProbKind.EXACT, progress.nfe, progress.nfe.clone())
