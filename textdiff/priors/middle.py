"""Fill-in-the-middle: the autoregressive prior that has read both sides of a gap before it fills it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, final, get_args

import torch
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.diffusion import subs
from textdiff.errors import UserError
from textdiff.models import Transformer
from textdiff.priors.autoregressive import unchanged
from textdiff.priors.prior import Prior
from textdiff.priors.reader import Reader, last_before, reading
from textdiff.samplers import NEUTRAL, LogProbKind, Tempering, Trajectory, UnmaskingPolicy, Watch, draw
from textdiff.samplers.draw import Streams
from textdiff.samplers.lengths import count_tokens, rank_and_size
from textdiff.text import Canvas, Vocabulary
from textdiff.text.middle import evidence_first

Layout = Literal["psm", "spm"]
"""What is read first: prefix and suffix, or suffix and prefix."""


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
    @torch.compiler.set_stance("force_eager")  # each pass has another length: compiling would not end
    def sample(
        self,
        canvas: Canvas,
        generator: Generator,
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
        slots = canvas.slots
        noise = Streams.of(generator, slots).uniforms(torch.arange(len(canvas)), torch.zeros(len(canvas)).long())[0]
        page = _Page.of(canvas, self.vocabulary, self.layout, self.network.context)
        reader = Reader(self.network, page.tokens, page.real)
        tokens, nfe = canvas.tokens.clone(), torch.zeros_like(canvas.tokens[:, 0])
        log_q = torch.zeros(len(canvas), dtype=torch.float64, device=tokens.device)
        for gap, rank, column, home in page.places(canvas):
            more = page.open[:, gap] & (rank < canvas.maximum[:, gap])
            page.end(page.open[:, gap] & ~more, gap, column)
            if not len(asked := more.nonzero()[:, 0]):
                continue
            law = tempering(self._law(reader.before(column)[asked], canvas, asked, gap, rank, home[asked]))
            values = draw(law, noise[asked, home[asked]])
            log_q = log_q.index_add(0, asked, law.gather(1, values[:, None])[:, 0])
            nfe[asked] += 1
            ended = values == self._eos
            page.tokens[asked, column], page.real[asked, column] = values, True
            page.end(torch.zeros_like(more).index_put((asked,), ended), gap, column)
            tokens[asked[~ended], home[asked[~ended]]] = values[~ended]
            if watch is not None and not ended.all():
                revealed = torch.zeros_like(slots).index_put((asked[~ended], home[asked[~ended]]), torch.tensor(True))
                watch(tokens.clone(), revealed)
        unused = slots & (tokens == self.vocabulary.mask)
        if unused.any():
            assert self.vocabulary.null is not None
            tokens = tokens.masked_fill(unused, self.vocabulary.null)
            if watch is not None:
                watch(tokens.clone(), unused)
        return Trajectory(tokens, log_q, LogProbKind.EXACT, nfe, nfe.clone())

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
        page, asked = _Page.of(canvas, self.vocabulary, self.layout, self.network.context), []
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
        states = self.network.hidden(page.tokens, *reading(page.real))
        log_q = torch.zeros(len(canvas), dtype=torch.float64, device=tokens.device)
        for rows, gap, rank, column, home in asked:
            law = tempering(self._law(states[rows, before[rows, column]], canvas, rows, gap, rank, home))
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
    def tractable(self) -> bool:
        """No: it is the law of a gap given the rest, not a joint."""
        return False

    @property
    def label(self) -> str:
        """How samples are drawn."""
        return f"autoregressive, fill-in-the-middle ({self.layout.upper()})"

    @property
    def _eos(self) -> int:
        assert self.vocabulary.eos is not None
        return self.vocabulary.eos

    def _law(self, states: Tensor, canvas: Canvas, rows: Tensor, gap: int, rank: int, home: Tensor) -> Tensor:
        """Law of slot `rank` of a gap `[rows, vocab]`: content, and the end where the gap may be so short."""
        vocabulary = self.vocabulary.to(states.device)
        never = vocabulary.forbidden.clone()
        if vocabulary.null is not None:
            never[vocabulary.null] = True
        barred = never | (canvas.word_start[rows, home][:, None] & ~vocabulary.starts_word)
        barred[:, self._eos] = rank < canvas.minimum[rows, gap]
        return subs(self.network.head(states), barred)


@dataclass(eq=False)
class _Page:
    """Texts laid out for a reader from left to right: the evidence, then room for each gap. It is written to.

    Attributes:
        tokens: `[batch, width]`.
        real: bool `[batch, width]`, what has been written.
        open: bool `[batch, gaps]`, gaps that have not ended.
        starts: column of the first slot of each gap.
    """

    tokens: Tensor
    real: Tensor
    open: Tensor
    starts: list[int]
    eos: int

    @classmethod
    def of(cls, canvas: Canvas, vocabulary: Vocabulary, layout: Layout, context: int | None) -> _Page:
        """The evidence of a canvas, and an opened first gap."""
        assert vocabulary.eos is not None
        device, gaps = canvas.tokens.device, canvas.minimum.shape[1]
        rows = [
            evidence_first(pieces, vocabulary, layout == "spm" and len(pieces) == 2)
            for pieces in map(_pieces, canvas.tokens.tolist(), canvas.gap.tolist(), [vocabulary.pad] * len(canvas))
        ]
        longest = max(map(len, rows))
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
        for row, ids in enumerate(rows):
            tokens[row, : len(ids)], real[row, : len(ids)] = torch.tensor(ids, device=device), True
        there = canvas.maximum > 0
        for gap in range(gaps):
            tokens[:, starts[gap] - 1] = vocabulary.mask
            real[:, starts[gap] - 1] = there[:, gap]
        return cls(tokens, real, there.clone(), starts, vocabulary.eos)

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
