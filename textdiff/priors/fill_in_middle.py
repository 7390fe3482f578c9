"""Fill-in-the-middle: a causal network that takes in the text on both sides of a gap before it fills the gap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final, get_args

import torch
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.diffusion import subs
from textdiff.errors import UserError
from textdiff.files.fields import check_fields, choice
from textdiff.models import Transformer
from textdiff.models.attention import causal_inputs, last_before
from textdiff.models.prefix_cache import PrefixCache
from textdiff.posterior.capabilities import Layout
from textdiff.posterior.prior import Prior
from textdiff.priors.autoregressive import CAUSAL_FIELDS, AutoregressivePrior, unchanged
from textdiff.priors.fill_in_middle_prompt import Prompt
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
from textdiff.samplers.lengths import count_tokens
from textdiff.text import Canvas, Vocabulary


@final
@dataclass(frozen=True, eq=False)
class FillInMiddlePrior(Prior):
    """Takes in all evidence, then decodes each gap from left to right, its end included (arXiv:2207.14255).

    The end of a gap of open length is drawn like a token, within the gap's bounds, so that no `null` is needed; a gap
    of given length ends there. `log_q` is exact. A text with several gaps is laid out as PSM, whatever `layout` says.

    Args:
        network: a causal transformer that was trained for it (`textdiff.data.FillInMiddle`).
        tokenizer: text <-> ids.
        vocabulary: special ids and properties of tokens.
        layout: "psm": prefix, suffix, middle; or "spm".

    Raises:
        UserError: there is no such layout.
    """

    network: Transformer
    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary
    layout: Layout = "psm"

    def __post_init__(self) -> None:
        check_fields(vars(self), {**CAUSAL_FIELDS, "layout": choice(*get_args(Layout))})

    @torch.no_grad()
    def sample(
        self,
        canvas: Canvas,
        generator: Randomness,
        *,
        tempering: Tempering = NEUTRAL,
        watch: Watch | None = None,
    ) -> Trajectory:
        """Fill each row of a canvas once, all rows in one batch, with a cache of keys and values.

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
        """The state of a decoding before its first token; no lengths are drawn.

        Raises:
            UserError: the text is too long for the network once its gaps are marked.
        """
        return _FillInMiddleDecoding(
            self, canvas, Prompt.of(canvas, self.vocabulary, self.layout, self.network.context)
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
        prompt, asked = Prompt.of(canvas, self.vocabulary, self.layout, self.network.context), []
        for gap, rank, column, slot in prompt.places(canvas):
            held = prompt.open[:, gap] & (rank < lengths[:, gap])
            prompt.tokens[held, column] = tokens[held, slot[held]]
            prompt.real[held, column] = True
            ends = prompt.open[:, gap] & ~held
            drawn = held | (ends & (rank < canvas.maximum[:, gap]))
            prompt.end(ends, gap, column)
            if len(rows := drawn.nonzero()[:, 0]):
                asked.append((rows, gap, rank, column, slot[rows]))
        before = last_before(prompt.real)
        states = self.network.hidden(prompt.tokens, causal_inputs(prompt.real)[0], prompt.positions)
        log_q = torch.zeros(len(canvas), dtype=torch.float64, device=tokens.device)
        for rows, gap, rank, column, slot in asked:
            log_probs = tempering(self.log_probs(states[rows, before[rows, column]], canvas, rows, gap, rank, slot))
            log_q = log_q.index_add(0, rows, log_probs.gather(1, prompt.tokens[rows, column, None])[:, 0])
        nfe = torch.ones_like(tokens[:, 0])
        return Trajectory(tokens, log_q, LogProbKind.EXACT, nfe, nfe)

    def log_density(self, canvas: Canvas, tokens: Tensor) -> tuple[Tensor, int]:
        """The exact log-probability of the fills given the evidence."""
        log_q = self.score(canvas, tokens).log_q
        assert log_q is not None
        return log_q, 1

    def log_partial(self, tokens: Tensor, masked: Tensor) -> tuple[Tensor, Tensor] | None:
        """None: only whole fills have a probability."""
        return None

    def with_policy(self, policy: UnmaskingPolicy | str | None = None, steps: int | None = None) -> FillInMiddlePrior:
        """Refuse: the order is fixed."""
        raise UserError("fill-in-the-middle goes from left to right, a token at a time: leave out policy and steps")

    def with_layout(self, layout: Layout) -> FillInMiddlePrior:
        """The same network, with prefix and suffix in another order."""
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
        """The context of the network; the marks of a gap take three more positions."""
        return self.network.context

    @property
    def kind(self) -> LogProbKind:
        """Exact."""
        return LogProbKind.EXACT

    @property
    def sees_suffix(self) -> bool:
        """True: all evidence comes before the gaps."""
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

    def log_probs(self, states: Tensor, canvas: Canvas, rows: Tensor, gap: int, rank: int, slot: Tensor) -> Tensor:
        """Log-probs of token `rank` of a gap `[rows, vocab]`: content, and the end where the gap may be so short."""
        vocabulary = self.vocabulary.to(states.device)
        never = vocabulary.forbidden.clone()
        if vocabulary.null is not None:
            never[vocabulary.null] = True
        forbidden = never | (canvas.word_start[rows, slot][:, None] & ~vocabulary.starts_word)
        forbidden[:, self.eos] = rank < canvas.minimum[rows, gap]
        return subs(self.network.head(states), forbidden)


class _FillInMiddleDecoding(CausalDecoding):
    """Decoding behind the evidence, gap by gap; the end of an open gap is drawn, too."""

    def __init__(self, prior: FillInMiddlePrior, canvas: Canvas, prompt: Prompt) -> None:
        super().__init__(canvas, PrefixCache(prior.network, prompt.tokens, prompt.real, prompt.positions))
        self.prior, self.prompt = prior, prompt
        self._places = prompt.places(canvas)
        self._place = next(self._places, None)

    def next_draw(self) -> NextDraw | None:
        while self._place is not None:
            gap, rank, column, slot = self._place
            more = self.prompt.open[:, gap] & (rank < self.canvas.maximum[:, gap])
            if len(rows := more.nonzero()[:, 0]):
                states = self.prefix_cache.state_before(column)[rows]
                log_probs = self.prior.log_probs(states, self.canvas, rows, gap, rank, slot[rows])
                return NextDraw(rows, slot[rows], log_probs)
            self._advance()
        return None

    def given_values(self, draw: NextDraw, texts: Tensor) -> Tensor:
        given = texts[draw.rows, draw.columns]
        return (
            given if (null := self.prior.vocabulary.null) is None else given.masked_fill(given == null, self.prior.eos)
        )

    def record(self, draw: NextDraw, values: Tensor) -> Tensor:
        assert self._place is not None
        gap, _, column, _ = self._place
        progress, rows = self.progress, draw.rows
        scores, ended = draw.log_probs.gather(1, values[:, None])[:, 0], values == self.prior.eos
        progress.nfe[rows] += 1
        self.prompt.tokens[rows, column], self.prompt.real[rows, column] = values, True
        settled = self.settle(rows[~ended], draw.columns[~ended], values[~ended], scores[~ended])
        progress.length_log_q = progress.length_log_q.index_add(0, rows[ended], scores[ended].double())
        if ended.any():
            ends = torch.zeros_like(progress.nfe, dtype=torch.bool).index_fill(0, rows[ended], True)
            unused = ends[:, None] & progress.masked & (self.canvas.gap == gap)
            assert self.prior.vocabulary.null is not None
            progress.tokens = progress.tokens.masked_fill(unused, self.prior.vocabulary.null)
            progress.masked = progress.masked & ~unused
            self.prompt.open[:, gap] &= ~ends
            settled |= unused
        self._advance()
        return settled

    def _advance(self) -> None:
        """Move on to the next place; gaps that have all their tokens end there."""
        self._place = next(self._places, None)
        if self._place is not None:
            gap, rank, column, _ = self._place
            self.prompt.end(self.prompt.open[:, gap] & (rank >= self.canvas.maximum[:, gap]), gap, column)

    def selected(self, rows: Tensor) -> None:
        self.prompt.tokens, self.prompt.real = self.prefix_cache.tokens, self.prefix_cache.real
        assert self.prefix_cache.positions is not None
        self.prompt.positions = self.prefix_cache.positions
        self.prompt.open = self.prompt.open[rows]
