"""Fill-in-the-middle: the autoregressive prior that has read both sides of a gap before it fills it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final, get_args

import torch
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.diffusion import subs
from textdiff.errors import UserError
from textdiff.models import Transformer
from textdiff.models.attention import causal_inputs, last_before
from textdiff.models.prefix_cache import PrefixCache
from textdiff.posterior.capabilities import Layout
from textdiff.posterior.prior import Prior
from textdiff.priors.autoregressive import AutoregressivePrior, unchanged
from textdiff.samplers import (
    NEUTRAL,
    GivenTokens,
    LogProbKind,
    Randomness,
    Steer,
    Streams,
    Tempering,
    Trajectory,
    UnmaskingPolicy,
    Watch,
)
from textdiff.samplers.causal import CausalDecoding, NextDraw, decode_causally
from textdiff.samplers.lengths import count_tokens, rank_and_size
from textdiff.text import Canvas, Vocabulary
from textdiff.text.fill_in_middle import layout_evidence


@final
@dataclass(frozen=True, eq=False)
class FillInMiddlePrior(Prior):
    """Reads all evidence, then writes each gap from left to right and ends it itself (arXiv:2207.14255).

    Null-free: the end of a gap of unknown length is drawn like a token, within the gap's bounds; a gap of known length
    ends there. `log_q` is exact. A text with several gaps is laid out as PSM, whatever `layout` says.

    Args:
        network: a causal transformer that was trained so (`textdiff.data.FillInMiddle`).
        tokenizer: text <-> ids.
        vocabulary: special ids and properties of tokens.
        layout: "psm" or "spm".

    Raises:
        UserError: there is no such layout.
    """

    network: Transformer
    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary
    layout: Layout = "psm"

    def __post_init__(self) -> None:
        if self.layout not in get_args(Layout):
            raise UserError(f"layout is {self.layout!r}, expected one of {', '.join(get_args(Layout))}")

    @torch.no_grad()
    def sample(
        self,
        canvas: Canvas,
        generator: Randomness,
        *,
        tempering: Tempering = NEUTRAL,
        watch: Watch | None = None,
    ) -> Trajectory:
        """Fill each row of a canvas once, all rows side by side, with a cache of keys and values.

        `nfe` counts a forward pass for each draw: the tokens of a gap and, where it may be shorter, its end.

        Raises:
            UserError: the text is too long for the network once its gaps are marked.
        """
        if not canvas.slots.any():
            return unchanged(canvas)
        streams = Streams.of(generator, canvas.slots)
        return decode_causally(self.causal_decoding(canvas, streams), streams, tempering=tempering, watch=watch)

    @torch.no_grad()
    def steered(
        self,
        canvas: Canvas,
        generator: Generator,
        steer: Steer,
        given_tokens: GivenTokens | None = None,
    ) -> Trajectory:
        """`sample` as a particle system, see `textdiff.samplers.steered`."""
        streams = Streams.of(generator, canvas.slots)
        decoding = self.causal_decoding(canvas, streams)
        return decode_causally(decoding, streams, steer=steer, given_tokens=given_tokens)

    def causal_decoding(
        self, canvas: Canvas, streams: Streams, given_tokens: GivenTokens | None = None
    ) -> CausalDecoding:
        """The decoding of a canvas before its first token; nothing is drawn beforehand.

        Raises:
            UserError: the text is too long for the network once its gaps are marked.
        """
        return _FillInMiddleDecoding(
            self, canvas, _Layout.of(canvas, self.vocabulary, self.layout, self.network.context)
        )

    def score(
        self,
        canvas: Canvas,
        tokens: Tensor,
        *,
        tempering: Tempering = NEUTRAL,
        generator: Generator | None = None,
    ) -> Trajectory:
        """Exact log-probability that `sample` fills `canvas` with `tokens`, -inf if it cannot; one forward pass.

        Raises:
            UserError: the text is too long for the network once its gaps are marked.
            ValueError: `tokens` differ from the evidence or in shape.
        """
        slots, null = canvas.slots, self.vocabulary.null
        if tokens.shape != canvas.tokens.shape or (tokens != canvas.tokens)[~slots].any():
            raise ValueError("tokens to score differ from the canvas in shape or outside its gaps")
        if not slots.any():
            return unchanged(canvas)
        gaps = canvas.minimum.shape[1]
        lengths = canvas.maximum if null is None else count_tokens(tokens[slots], null, canvas.gap, gaps)
        page, asked = _Layout.of(canvas, self.vocabulary, self.layout, self.network.context), []
        for gap, rank, column, home in page.places(canvas):
            held = page.open[:, gap] & (rank < lengths[:, gap])
            page.tokens[held, column] = tokens[held, home[held]]
            page.real[held, column] = True
            ends = page.open[:, gap] & ~held
            drawn = held | (ends & (rank < canvas.maximum[:, gap]))
            page.end(ends, gap, column)
            if len(rows := drawn.nonzero()[:, 0]):
                asked.append((rows, gap, rank, column, home[rows]))
        before = last_before(page.real)
        states = self.network.hidden(page.tokens, causal_inputs(page.real)[0], page.positions)
        log_q = torch.zeros(len(canvas), dtype=torch.float64, device=tokens.device)
        for rows, gap, rank, column, home in asked:
            law = tempering(self.law(states[rows, before[rows, column]], canvas, rows, gap, rank, home))
            log_q = log_q.index_add(0, rows, law.gather(1, page.tokens[rows, column, None])[:, 0])
        nfe = torch.ones_like(tokens[:, 0])
        return Trajectory(tokens, log_q, LogProbKind.EXACT, nfe, nfe)

    def log_density(self, canvas: Canvas, tokens: Tensor) -> tuple[Tensor, int]:
        """The exact law of the sampler given the evidence."""
        log_q = self.score(canvas, tokens).log_q
        assert log_q is not None
        return log_q, 1

    def log_partial(self, tokens: Tensor, masked: Tensor) -> tuple[Tensor, Tensor] | None:
        """Nothing: the law is that of whole fills."""
        return None

    def with_policy(self, policy: UnmaskingPolicy | str | None = None, steps: int | None = None) -> FillInMiddlePrior:
        """Refuse: the order is fixed."""
        raise UserError("fill-in-the-middle goes from left to right, a token at a time: leave out policy and steps")

    def with_layout(self, layout: Layout) -> FillInMiddlePrior:
        """The same network, which reads prefix and suffix in another order."""
        return replace(self, layout=layout)

    def prefix_only(self) -> AutoregressivePrior:
        """The same network as an autoregressive prior that does not see the text after a gap."""
        return AutoregressivePrior(self.network, self.tokenizer, self.vocabulary)

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self.network.device

    @property
    def context(self) -> int | None:
        """The longest text that the network reads; the marks of a gap take three more places."""
        return self.network.context

    @property
    def kind(self) -> LogProbKind:
        """Exact."""
        return LogProbKind.EXACT

    @property
    def sees_suffix(self) -> bool:
        """True: all evidence is read first."""
        return True

    @property
    def draws_lengths(self) -> bool:
        """False: the end of a gap is drawn like a token."""
        return False

    @property
    def label(self) -> str:
        """How samples are drawn."""
        return f"autoregressive, fill-in-the-middle ({self.layout.upper()})"

    @property
    def eos(self) -> int:
        """The token that ends a gap."""
        assert self.vocabulary.eos is not None
        return self.vocabulary.eos

    def law(self, states: Tensor, canvas: Canvas, rows: Tensor, gap: int, rank: int, home: Tensor) -> Tensor:
        """Law of slot `rank` of a gap `[rows, vocab]`: content, and the end where the gap may be so short."""
        vocabulary = self.vocabulary.to(states.device)
        never = vocabulary.forbidden.clone()
        if vocabulary.null is not None:
            never[vocabulary.null] = True
        barred = never | (canvas.word_start[rows, home][:, None] & ~vocabulary.starts_word)
        barred[:, self.eos] = rank < canvas.minimum[rows, gap]
        return subs(self.network.head(states), barred)


class _FillInMiddleDecoding(CausalDecoding):
    """Fills that are written behind the evidence and end themselves."""

    def __init__(self, prior: FillInMiddlePrior, canvas: Canvas, page: _Layout) -> None:
        super().__init__(canvas, PrefixCache(prior.network, page.tokens, page.real, page.positions))
        self.prior, self.page = prior, page
        self._places = page.places(canvas)
        self._now = next(self._places, None)

    def next_draw(self) -> NextDraw | None:
        while self._now is not None:
            gap, rank, column, home = self._now
            more = self.page.open[:, gap] & (rank < self.canvas.maximum[:, gap])
            if len(rows := more.nonzero()[:, 0]):
                states = self.prefix_cache.state_before(column)[rows]
                log_probs = self.prior.law(states, self.canvas, rows, gap, rank, home[rows])
                return NextDraw(rows, home[rows], log_probs)
            self._turn()
        return None

    def given_values(self, draw: NextDraw, texts: Tensor) -> Tensor:
        given = texts[draw.rows, draw.columns]
        return (
            given if (null := self.prior.vocabulary.null) is None else given.masked_fill(given == null, self.prior.eos)
        )

    def record(self, draw: NextDraw, values: Tensor) -> Tensor:
        assert self._now is not None
        gap, _, column, _ = self._now
        progress, rows = self.progress, draw.rows
        scores, ended = draw.log_probs.gather(1, values[:, None])[:, 0], values == self.prior.eos
        progress.nfe[rows] += 1
        self.page.tokens[rows, column], self.page.real[rows, column] = values, True
        settled = self.settle(rows[~ended], draw.columns[~ended], values[~ended], scores[~ended])
        progress.length_log_q = progress.length_log_q.index_add(0, rows[ended], scores[ended])
        if ended.any():
            ends = torch.zeros_like(progress.nfe, dtype=torch.bool).index_fill(0, rows[ended], True)
            unused = ends[:, None] & progress.masked & (self.canvas.gap == gap)
            assert self.prior.vocabulary.null is not None
            progress.tokens = progress.tokens.masked_fill(unused, self.prior.vocabulary.null)
            progress.masked = progress.masked & ~unused
            self.page.open[:, gap] &= ~ends
            settled |= unused
        self._turn()
        return settled

    def _turn(self) -> None:
        """Go to the next place; gaps that have all their tokens end there."""
        self._now = next(self._places, None)
        if self._now is not None:
            gap, rank, column, _ = self._now
            self.page.end(self.page.open[:, gap] & (rank >= self.canvas.maximum[:, gap]), gap, column)

    def selected(self, rows: Tensor) -> None:
        self.page.tokens, self.page.real = self.prefix_cache.tokens, self.prefix_cache.real
        assert self.prefix_cache.positions is not None
        self.page.positions = self.prefix_cache.positions
        self.page.open = self.page.open[rows]


@dataclass(eq=False)
class _Layout:
    """Texts laid out for a reader from left to right: the evidence, then room for each gap. It is written to.

    Attributes:
        tokens: `[batch, width]`.
        real: bool `[batch, width]`, what has been written.
        positions: rotary positions `[batch, width]`.
        open: bool `[batch, gaps]`, gaps that have not ended.
        starts: column of the first slot of each gap.
    """

    tokens: Tensor
    real: Tensor
    positions: Tensor
    open: Tensor
    starts: list[int]
    eos: int

    @classmethod
    def of(cls, canvas: Canvas, vocabulary: Vocabulary, layout: Layout, context: int | None) -> _Layout:
        """The evidence of a canvas, and an opened first gap."""
        assert vocabulary.eos is not None
        device, gaps = canvas.tokens.device, canvas.minimum.shape[1]
        rows = [
            layout_evidence(pieces, vocabulary, layout == "spm" and len(pieces) == 2)
            for pieces in map(_pieces, canvas.tokens.tolist(), canvas.gap.tolist(), [vocabulary.pad] * len(canvas))
        ]
        longest = max(len(row.ids) for row in rows)
        most = canvas.maximum.amax(dim=0).tolist()
        starts, width = [], longest
        for slots in most:
            starts.append(width + 1)  # the mask that opens the gap, its slots, its end
            width += slots + 2
        if context is not None and (needed := longest + int((canvas.maximum + 2).sum(dim=1).max())) > context:
            raise UserError(
                f"the text takes {needed} tokens once its gaps are marked, and the model reads at most {context}: "
                "shorten the text or its gaps, e.g. [gap:1-16]"
            )
        tokens = torch.zeros(len(canvas), width, dtype=torch.long, device=device)
        real = torch.zeros_like(tokens, dtype=torch.bool)
        positions = torch.zeros_like(tokens)
        for number, row in enumerate(rows):
            here = slice(0, len(row.ids))
            tokens[number, here], real[number, here] = torch.tensor(row.ids, device=device), True
            positions[number, here] = torch.tensor(row.positions, device=device)
            for start, slots, place in zip(starts, most, row.starts, strict=False):
                positions[number, start - 1 : start + slots + 1] = place + torch.arange(-1, slots + 1, device=device)
        there = canvas.maximum > 0
        for gap in range(gaps):
            tokens[:, starts[gap] - 1] = vocabulary.mask
            real[:, starts[gap] - 1] = there[:, gap]
        return cls(tokens, real, positions, there.clone(), starts, vocabulary.eos)

    def places(self, canvas: Canvas) -> Iterator[tuple[int, int, int, Tensor]]:
        """Gap, rank in it, column of the page, and the columns `[batch]` of that slot in the rows of the canvas.

        One more rank than slots, where a gap that has all its tokens ends.
        """
        rank, _ = rank_and_size(canvas.gap)
        most = canvas.maximum.amax(dim=0).tolist()
        for gap, start in enumerate(self.starts):
            for number in range(most[gap] + 1):
                if not self.open[:, gap].any():
                    break
                home = ((canvas.gap == gap) & (rank == number)).long().argmax(dim=1)
                yield gap, number, start + number, home

    def end(self, rows: Tensor, gap: int, column: int) -> None:
        """Write the end of a gap of some rows, bool `[batch]`."""
        self.tokens[rows, column], self.real[rows, column] = self.eos, True
        self.open[rows, gap] = False


def _pieces(tokens: list[int], gap: list[int], pad: int | None) -> list[list[int]]:
    """The evidence of a row before, between and behind its gaps."""
    pieces: list[list[int]] = [[]]
    for i, (token, number) in enumerate(zip(tokens, gap, strict=True)):
        if number >= 0:
            if i == 0 or gap[i - 1] != number:
                pieces.append([])
        elif token != pad:
            pieces[-1].append(token)
    return pieces
