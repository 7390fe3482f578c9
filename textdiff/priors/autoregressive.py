"""The autoregressive prior: a causal network fills gaps from left to right, without the text after them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.diffusion import subs
from textdiff.errors import UserError
from textdiff.files.fields import TEXT, check_fields, instance, whole
from textdiff.models import KeyValueCache, Transformer
from textdiff.models.attention import causal_inputs, last_before
from textdiff.models.eager import eager
from textdiff.models.prefix_cache import PrefixCache
from textdiff.posterior.posterior import MOST_TOKENS
from textdiff.posterior.prior import NETWORK_FIELDS, Prior
from textdiff.posterior.samples import seeded
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
    categorical,
)
from textdiff.samplers.causal import CausalDecoding, NextDraw, decode_causally
from textdiff.samplers.lengths import by_gap, count_tokens, rank_and_size
from textdiff.text import Canvas, Vocabulary, encode

CAUSAL_FIELDS = {**NETWORK_FIELDS, "network": instance(Transformer, "a causal Transformer")}


@final
@dataclass(frozen=True, eq=False)
class AutoregressivePrior(Prior):
    """Prefix-only infilling: each token of a gap is drawn given all text before it; the text after it is not seen.

    The length of a gap of open length is drawn uniformly from its range, since the prefix does not determine it; a text
    never ends inside a gap. `log_q` is exact. The network skips null slots and padding, which take no position.

    Args:
        network: a causal transformer.
        tokenizer: text <-> ids.
        vocabulary: special ids and properties of tokens, null and pad among them.
    """

    network: Transformer
    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary

    def __post_init__(self) -> None:
        check_fields(vars(self), CAUSAL_FIELDS)

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

        `nfe` counts one forward pass for each token of a row: a pass takes in what is known up to the next slot.

        Raises:
            ValueError: a row begins with a gap.
        """
        if not canvas.slots.any():
            return unchanged(canvas)
        streams = Streams.of(generator, canvas.slots)
        decoding = self.causal_decoding(canvas, streams)
        if watch is not None and (unused := canvas.slots & ~decoding.progress.masked).any():
            watch(decoding.progress.tokens.clone(), unused)
        return decode_causally(decoding, streams, tempering=tempering, watch=watch)

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
        decoding = self.causal_decoding(canvas, streams, given_tokens)
        return decode_causally(decoding, streams, steer=steer, given_tokens=given_tokens)

    def causal_decoding(
        self, canvas: Canvas, streams: Streams, given_tokens: GivenTokens | None = None
    ) -> CausalDecoding:
        """The state of a decoding before its first token; the lengths of open gaps are drawn.

        Args:
            canvas: has gaps in every row.
            streams: random numbers; call number 0 is used for the lengths.
            given_tokens: texts that some rows follow, lengths included.
        """
        slots, rows = canvas.slots, torch.arange(len(canvas), device=canvas.tokens.device)
        noise = streams.uniforms(rows, torch.zeros_like(rows))[0]
        first = by_gap(noise[slots], canvas.gap, canvas.minimum.shape[1])[..., 0]
        lengths = canvas.minimum + (first * (canvas.maximum - canvas.minimum + 1)).long()
        if given_tokens is not None:
            given = count_tokens(given_tokens.tokens[slots], self._null, canvas.gap, canvas.minimum.shape[1])
            lengths = torch.where(given_tokens.rows[:, None], given, lengths)
        real, unused = self._real(canvas, lengths)
        return _PrefixDecoding(self, canvas, real, unused, _length_log_prob(canvas, lengths))

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
            ValueError: `tokens` differ from the evidence or in shape; a row begins with a gap.
        """
        slots = canvas.slots
        if tokens.shape != canvas.tokens.shape or (tokens != canvas.tokens)[~slots].any():
            raise ValueError("tokens to score differ from the canvas in shape or outside its gaps")
        if not slots.any():
            return unchanged(canvas)
        lengths = count_tokens(tokens[slots], self._null, canvas.gap, canvas.minimum.shape[1])
        real, _ = self._real(canvas, lengths)
        states = self.network.hidden(tokens, *causal_inputs(real))
        asked, before = slots & real, last_before(real)
        row = asked.nonzero()[:, 0]
        log_probs = tempering(self._log_probs(states[row, before[asked]], canvas.word_start[asked]))
        scores = log_probs.gather(1, tokens[asked][:, None])[:, 0]
        log_q = _length_log_prob(canvas, lengths).index_add(0, row, scores)
        nfe = torch.ones_like(tokens[:, 0])
        return Trajectory(tokens, log_q, LogProbKind.EXACT, nfe, nfe)

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Exact log-probability of complete texts `[batch, length]` given their first token, float64 `[batch]`, nats.

        Null and padding are left out; an eos counts. A token that a text cannot hold has probability 0.
        """
        scores, _ = self._token_log_probs(tokens, torch.zeros_like(tokens, dtype=torch.bool))
        return scores.sum(dim=1)

    @torch.no_grad()
    @eager
    def simulate(
        self,
        n: int,
        generator: Generator | int | None = None,
        longest: int | None = None,
        beginning: str = "",
        tempering: Tempering = NEUTRAL,
    ) -> Tensor:
        """Whole texts drawn in one batch, with bos and eos around each, padded: ids `[n, at most longest]`.

        A text longer than `longest`, by default the context of the network, is cut and has no eos.

        Args:
            n: number of texts.
            generator: the source of randomness, or a seed.
            longest: most tokens of a text.
            beginning: text that all of them continue.
            tempering: sharpens each draw.

        Raises:
            UserError: the beginning is as long as a text may be.
        """
        most = self.network.context
        fields = {"n": whole(1), "longest": whole(1, most).optional(), "beginning": TEXT}
        check_fields({"n": n, "longest": longest, "beginning": beginning}, fields)
        vocabulary, longest = self.vocabulary, most if longest is None else longest
        if n * longest > MOST_TOKENS:
            raise UserError(f"n is {n}: ask for {MOST_TOKENS // longest} texts of {longest} tokens at most")
        assert vocabulary.bos is not None and vocabulary.eos is not None and vocabulary.pad is not None
        never = vocabulary.forbidden.clone()
        never[self._null], never[vocabulary.eos] = True, False
        never, alive = never.to(self.device), torch.arange(n, device=self.device)
        tokens = torch.full((n, longest), vocabulary.pad, device=self.device)
        known = encode(self.tokenizer, beginning) if beginning else []
        begin = torch.tensor([vocabulary.bos, *known], device=self.device)
        if len(begin) >= longest:
            raise UserError(f"the beginning has {len(begin)} tokens, a text at most {longest}: shorten it")
        tokens[:, : len(begin)] = last = begin.expand(n, -1)
        noise, cache = seeded(generator), KeyValueCache()
        for column in range(len(begin), longest):
            log_probs = tempering(subs(self.network.logits(last.view(len(alive), -1), cache=cache)[:, -1], never))
            uniform = torch.rand(len(last), generator=noise, dtype=torch.float64).to(self.device)
            last = categorical(log_probs, uniform)
            tokens[alive, column] = last
            if bool((ended := last == vocabulary.eos).any()):
                alive, last, cache = alive[~ended], last[~ended], cache.select((~ended).nonzero()[:, 0])
            if not len(alive):
                return tokens[:, : column + 1]
        return tokens

    def log_density(self, canvas: Canvas, tokens: Tensor) -> tuple[Tensor, int]:
        """The joint of the whole text, so that posteriors account for the text on both sides of a gap."""
        return self.log_prob(tokens), 1

    @torch.no_grad()
    def log_partial(self, tokens: Tensor, masked: Tensor) -> tuple[Tensor, Tensor] | None:
        """Exact for the text before the first masked slot."""
        known = ~(masked.cumsum(dim=1) > 0)
        scores, real = self._token_log_probs(tokens, ~known)
        return scores.sum(dim=1), real

    def _token_log_probs(self, tokens: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Log-prob of each token given those before it, 0 where `hidden`, null or padding; and a mask of the others."""
        real = ~hidden & (tokens != self._null) & (tokens != torch.tensor(self.vocabulary.pad, device=tokens.device))
        states, before = self.network.hidden(tokens, *causal_inputs(real)), last_before(real)
        asked = real & (before >= 0)
        row = asked.nonzero()[:, 0]
        logits = self.network.head(states[row, before[asked]])
        log_probs = subs(logits, self.network.forbidden_mask(logits.device)).double()
        scores = log_probs.gather(1, tokens[asked][:, None])[:, 0]
        return scores.new_zeros(tokens.shape).masked_scatter(asked, scores), real

    def with_policy(self, policy: UnmaskingPolicy | str | None = None, steps: int | None = None) -> AutoregressivePrior:
        """Refuse: the order is fixed."""
        raise UserError(
            "an autoregressive prior goes from left to right, a token at a time: leave out policy and steps"
        )

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self.network.device

    @property
    def context(self) -> int | None:
        """The context of the network."""
        return self.network.context

    @property
    def kind(self) -> LogProbKind:
        """Exact."""
        return LogProbKind.EXACT

    @property
    def sees_suffix(self) -> bool:
        """False: a token depends on the text before it alone."""
        return False

    @property
    def draws_lengths(self) -> bool:
        """True: uniformly from the range of each gap."""
        return True

    @property
    def label(self) -> str:
        """How samples are drawn."""
        return "autoregressive, prefix only"

    @property
    def _null(self) -> int:
        assert self.vocabulary.null is not None
        return self.vocabulary.null

    def _real(self, canvas: Canvas, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Positions that hold text, and unused slots, if the gaps have `lengths [batch, gaps]`."""
        if canvas.slots[:, 0].any():
            raise ValueError("a row begins with a gap: an autoregressive prior needs a first token, such as bos")
        unused = canvas.slots & (rank_and_size(canvas.gap)[0] >= lengths.gather(1, canvas.gap.clamp(min=0)))
        padding = (canvas.tokens == torch.tensor(self.vocabulary.pad, device=lengths.device)) & canvas.observed
        return ~(unused | padding), unused

    def _log_probs(self, states: Tensor, word_start: Tensor) -> Tensor:
        """Log-probs of the next token of a gap `[slots, vocab]`: content, and a new word where the template has one."""
        vocabulary = self.vocabulary.to(states.device)
        never = vocabulary.forbidden.index_fill(0, torch.tensor(self._null, device=states.device), True)
        return subs(self.network.head(states), never | (word_start[:, None] & ~vocabulary.starts_word))


class _PrefixDecoding(CausalDecoding):
    """Decoding of gaps whose lengths are drawn beforehand, slot by slot."""

    def __init__(
        self, prior: AutoregressivePrior, canvas: Canvas, real: Tensor, unused: Tensor, length_log_q: Tensor
    ) -> None:
        super().__init__(canvas, PrefixCache(prior.network, canvas.tokens.masked_fill(unused, prior._null), real))
        self.prior, self.progress.length_log_q = prior, length_log_q
        self.progress.tokens = self.prefix_cache.tokens  # one tensor, so that the network reads what is drawn
        self.progress.masked = self.progress.masked & ~unused

    def next_draw(self) -> NextDraw | None:
        masked = self.progress.masked
        waiting = masked.any(dim=0).nonzero()[:, 0]
        if not len(waiting):
            return None
        column = int(waiting[0])
        rows = masked[:, column].nonzero()[:, 0]
        log_probs = self.prior._log_probs(
            self.prefix_cache.state_before(column)[rows], self.canvas.word_start[rows, column]
        )
        return NextDraw(rows, torch.full_like(rows, column), log_probs)

    def given_values(self, draw: NextDraw, texts: Tensor) -> Tensor:
        return texts[draw.rows, draw.columns]

    def record(self, draw: NextDraw, values: Tensor) -> Tensor:
        self.progress.nfe[draw.rows] += 1
        return self.settle(draw.rows, draw.columns, values, draw.log_probs.gather(1, values[:, None])[:, 0])

    def selected(self, rows: Tensor) -> None:
        self.progress.tokens = self.prefix_cache.tokens


def _length_log_prob(canvas: Canvas, lengths: Tensor) -> Tensor:
    """Log-probability of the gaps' `lengths [batch, gaps]`, each uniform on its range: float64 `[batch]`."""
    log_prob = -(canvas.maximum - canvas.minimum + 1).double().log()
    return log_prob.masked_fill(lengths < canvas.minimum, -torch.inf).sum(dim=1)


def unchanged(canvas: Canvas) -> Trajectory:
    """The trajectory of a batch without gaps."""
    none = torch.zeros_like(canvas.tokens[:, 0])
    return Trajectory(canvas.tokens.clone(), none.double(), LogProbKind.EXACT, none, none)
