"""Worlds whose posterior is known: laws of texts that a probabilistic finite automaton writes.

A hidden state moves along arcs; each arc writes one token. Enumerated tables, n-grams, hidden Markov models, regular
grammars and worked sums are all of this kind, and one forward-backward recursion (Rabiner 1989) answers every question
about them: the posterior of several gaps at once, evidence, marginals, and the number of tokens in a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.errors import Impossible, UserError
from textdiff.posterior.prior import Prior
from textdiff.posterior.samples import seeded
from textdiff.samplers import (
    NEUTRAL,
    LogProbKind,
    Randomness,
    Streams,
    Tempering,
    Trajectory,
    UnmaskingPolicy,
    Watch,
    categorical,
)
from textdiff.samplers.lengths import rank_and_size
from textdiff.text import Canvas, Vocabulary
from textdiff.worlds.arcs import Arcs, Moves

MOST_STATES = 2**20
CELLS = 2**25
"""Most numbers in one of the arrays of a recursion; more rows are taken in several goes."""

TINY = torch.finfo(torch.float64).tiny


@final
@dataclass(frozen=True, eq=False)
class ProbabilisticAutomaton(Prior):
    """A law of texts written by an automaton; a prior, a perfect denoiser, and the truth that others are held to.

    `sample` and `score` are the exact posterior given the fixed tokens, the lengths of open gaps included: a gap of
    unknown length has the lengths that the law of whole texts gives it. Null, bos and padding write nothing; at an eos
    the state must stop. Texts without eos are beginnings. All arithmetic is float64 on the CPU.

    Args:
        tokenizer: text <-> ids.
        vocabulary: of the tokenizer.
        source, token, target: `[arcs]` long: an arc leads from a state to a state and writes a token.
        weight: `[arcs]` float64, its probability given its source.
        stop: `[states]` float64, probability that a text ends in a state; with the weights of the state's arcs it sums
            to 1, or it is 1 everywhere, if the length of a text is given and not part of the law.
        name: in words.
        normalised: whether `weight` and `stop` must be probabilities; if they are not, joints and evidences are known
            up to a factor, and posteriors as exactly as ever.

    The first state is where a text begins.

    Raises:
        UserError: probabilities that are none.
    """

    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary
    source: Tensor
    token: Tensor
    target: Tensor
    weight: Tensor
    stop: Tensor
    name: str = "automaton"
    normalised: bool = True

    def __post_init__(self) -> None:
        out = torch.zeros_like(self.stop).index_add(0, self.source, self.weight)
        total = out if bool((self.stop == 1).all()) else out + self.stop
        proper = not self.normalised or torch.allclose(total, torch.ones_like(total))
        if not bool((self.weight >= 0).all()) or not proper:
            worst = int((total - 1).abs().argmax())
            raise UserError(f"the probabilities out of state {worst} sum to {float(total[worst]):.6g}, expected 1")
        order = self.source.argsort(stable=True)
        for name in ("source", "token", "target", "weight"):
            object.__setattr__(self, name, getattr(self, name)[order])

    @classmethod
    def build(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        start: Hashable,
        moves: Callable[[Any], tuple[Iterable[tuple[str, float, Hashable]], float]],
        name: str,
    ) -> ProbabilisticAutomaton:
        """Explore the states that can be reached.

        Args:
            tokenizer: its tokens are looked up by their literal text.
            start: the state in which a text begins.
            moves: state -> arcs (text of the token, probability, next state) and the probability of stopping.
            name: in words.

        Raises:
            UserError: more than a million states.
        """
        ids: Mapping[str, int] = tokenizer.get_vocab()
        number: dict[Hashable, int] = {start: 0}
        queue = [start]
        rows: list[tuple[int, int, int, float]] = []
        stop: list[float] = []
        for state in queue:
            arcs, ends = moves(state)
            stop.append(ends)
            for text, probability, after in arcs:
                if after not in number:
                    number[after] = len(queue)
                    queue.append(after)
                    if len(queue) > MOST_STATES:
                        raise UserError(f"the world {name} has more than {MOST_STATES} states: make it smaller")
                rows.append((number[state], ids[text], number[after], probability))
        source, token, target, weight = zip(*rows, strict=True)
        return cls(
            tokenizer,
            Vocabulary.of(tokenizer),
            torch.tensor(source),
            torch.tensor(token),
            torch.tensor(target),
            torch.tensor(weight, dtype=torch.float64),
            torch.tensor(stop, dtype=torch.float64),
            name,
        )

    def tilted(self, worth: Mapping[str, float]) -> ProbabilisticAutomaton:
        """The law in which a text is exp(sum of what its tokens are worth) times as likely, normalised or not.

        Its posterior given fixed tokens is this world's posterior under a reward of so much for each token of a gap:
        what the fixed tokens are worth changes the evidence alone.

        Args:
            worth: nats by the literal text of a token; others are worth nothing.

        Raises:
            UserError: a text that is no token.
        """
        nats, ids = torch.zeros(self.vocabulary.size, dtype=torch.float64), self.tokenizer.get_vocab()
        for text, value in worth.items():
            if text not in ids:
                raise UserError(f"the world {self.name} has no token {text!r}: expected tokens that it writes")
            nats[ids[text]] = value
        weight, name = self.weight * nats[self.token].exp(), f"{self.name}, tilted"
        return replace(self, weight=weight, name=name, normalised=False)

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return self.weight.device

    @property
    def context(self) -> int | None:
        """No limit."""
        return None

    @property
    def kind(self) -> LogProbKind:
        """Exact."""
        return LogProbKind.EXACT

    @property
    def sees_suffix(self) -> bool:
        """True: fills follow the exact posterior."""
        return True

    @property
    def label(self) -> str:
        """Its name."""
        return f"exact world, {self.name}"

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.stop)

    def with_policy(
        self, policy: UnmaskingPolicy | str | None = None, steps: int | None = None
    ) -> ProbabilisticAutomaton:
        """Refuse: a world draws from the exact posterior."""
        raise UserError(
            "an exact world needs no policy or steps: leave them out, or give it to a DiffusionPrior as its network"
        )

    # The law

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Exact log-probability of complete texts `[batch, length]`, in nats, float64 `[batch]`."""
        return self._evidence(tokens, torch.full_like(tokens, -1), tokens.new_zeros(len(tokens), 0))

    def log_density(self, canvas: Canvas, tokens: Tensor) -> tuple[Tensor, int]:
        """The joint."""
        return self.log_prob(tokens), 0

    def log_partial(self, tokens: Tensor, masked: Tensor) -> tuple[Tensor, Tensor] | None:
        """The exact marginal probability of all that is not masked."""
        canvas = Canvas.of(tokens, self.vocabulary.mask)
        return self.log_evidence(canvas), ~masked

    def log_evidence(self, canvas: Canvas) -> Tensor:
        """Exact log-probability of the fixed tokens of each row, summed over all fills of its gaps: `[batch]`, nats."""
        return self._evidence(canvas.tokens, canvas.gap, canvas.minimum, canvas.word_start)

    def length_log_probs(self, canvas: Canvas, gap: int = 0) -> Tensor:
        """Exact posterior of the number of tokens in a gap, `[batch, slots + 1]`, -inf where it is out of bounds."""
        most = int(canvas.maximum[:, gap].max())
        columns = []
        for n in range(most + 1):
            slot = canvas.gap == gap
            unused = slot & (rank_and_size(canvas.gap)[0] >= n)
            tokens = canvas.tokens.masked_fill(unused, self._null)
            at = torch.tensor(gap)
            fixed = canvas.minimum.index_fill(1, at, n)
            possible = (n >= canvas.minimum[:, gap]) & (n <= canvas.maximum[:, gap])
            evidence = self._evidence(tokens, canvas.gap.masked_fill(unused, -1), fixed, canvas.word_start)
            columns.append(evidence.where(possible, -torch.inf))
        return torch.stack(columns, dim=1).log_softmax(dim=1)

    def simulate(self, n: int, generator: Generator | int | None = None, longest: int = 512) -> Tensor:
        """Texts drawn from the law, bos and eos around each, padded: ids `[n, at most longest]`.

        Raises:
            UserError: the law does not say when a text ends (use `sample` on a canvas of the wanted length).
        """
        if self.any_length:
            raise UserError(f"the world {self.name} gives no law of lengths: sample a canvas of the wanted length")
        generator, reached = seeded(generator), self.weight.cumsum(0)
        ends = torch.searchsorted(self.source, torch.arange(self.states), right=True)
        before = torch.cat((reached.new_zeros(1), reached))  # the arcs of a state stand together
        begins = torch.cat((ends.new_zeros(1), ends[:-1]))
        state, going = torch.zeros(n, dtype=torch.long), torch.ones(n, dtype=torch.bool)
        columns = [torch.full((n,), int(self.vocabulary.bos or 0))]
        while going.any() and len(columns) < longest:
            first, out = before[begins[state]], before[ends[state]] - before[begins[state]]
            mark = torch.rand(n, dtype=torch.float64, generator=generator) * (out + self.stop[state])
            arc = torch.searchsorted(reached, first + mark, right=True).clamp(max=ends[state] - 1).clamp(min=0)
            stops = mark >= out
            token = self.token[arc].where(~stops, self._eos).where(going, self._pad)
            state, going = self.target[arc], going & ~stops
            columns.append(token)
        return torch.stack(columns, dim=1)

    # The posterior

    @torch.no_grad()
    def sample(
        self,
        canvas: Canvas,
        generator: Randomness,
        *,
        tempering: Tempering = NEUTRAL,
        watch: Watch | None = None,
    ) -> Trajectory:
        """Draw each row's gaps from the exact posterior, left to right; `log_q` is its exact log-probability.

        Raises:
            UserError: evidence that this world cannot have written.
        """
        streams = Streams.of(generator, canvas.slots)
        parts = [self._fill(canvas, streams, None, rows, tempering) for rows in self._goes(canvas)]
        tokens, log_q = (torch.cat(part) for part in zip(*parts, strict=True))
        if watch is not None:
            watch(tokens.clone(), canvas.slots)
        nfe = canvas.slots.any(dim=1).long()
        return Trajectory(tokens, log_q, LogProbKind.EXACT, nfe, nfe)

    @torch.no_grad()
    def score(
        self,
        canvas: Canvas,
        tokens: Tensor,
        *,
        tempering: Tempering = NEUTRAL,
        generator: Generator | None = None,
    ) -> Trajectory:
        """Exact posterior log-probability of complete `tokens [batch, length]` given the canvas.

        Raises:
            UserError: evidence that this world cannot have written.
            ValueError: `tokens` differ from the evidence or in shape.
        """
        if tokens.shape != canvas.tokens.shape or (tokens != canvas.tokens)[~canvas.slots].any():
            raise ValueError("tokens to score differ from the canvas in shape or outside its gaps")
        streams = Streams(tokens[:, 0], canvas.slots)
        parts = [self._fill(canvas, streams, tokens, rows, tempering) for rows in self._goes(canvas)]
        nfe = canvas.slots.any(dim=1).long()
        return Trajectory(tokens, torch.cat([part[1] for part in parts]), LogProbKind.EXACT, nfe, nfe)

    def log_probs(self, canvas: Tensor, observed: Tensor, where: Tensor | None = None, null: bool = False) -> Tensor:
        """The exact conditional marginals of each position: a perfect denoiser (`textdiff.denoisers.Denoiser`).

        Masked runs are gaps of exactly that length, or with `null` of at most that length. On a canvas that this world
        cannot have written all tokens are equally likely.
        """
        known = Canvas.of(canvas, self.vocabulary.mask)
        minimum = torch.zeros_like(known.minimum) if null else known.minimum
        known = Canvas(known.tokens, known.observed, known.gap, minimum, known.word_start)
        wanted = torch.ones_like(canvas, dtype=torch.bool) if where is None else where
        parts = [self._marginals(known.select(rows), wanted[rows]) for rows in self._goes(known)]
        laws = torch.cat(parts)
        return laws if where is not None else laws.view(*canvas.shape, -1)

    # The recursion

    def _fill(
        self,
        canvas: Canvas,
        streams: Streams,
        given: Tensor | None,
        rows: Tensor,
        tempering: Tempering,
    ) -> tuple[Tensor, Tensor]:
        """Draw the slots of some rows from left to right, or score the `given` tokens: tokens and log-probability."""
        noise = streams.uniforms(rows, torch.zeros_like(rows))[0]
        given = None if given is None else given[rows]
        canvas = canvas.select(rows)
        inner = self._inner(canvas)
        alike = all(bool((x == x[:1]).all()) for x in (canvas.tokens, canvas.gap, canvas.minimum, canvas.word_start))
        beta, evidence = self._backward(canvas.select(rows.new_zeros(1)) if alike else canvas, inner)
        beta = beta.expand(len(rows), -1, -1, -1)
        if bool((evidence == -torch.inf).any()):
            raise Impossible(
                f"the world {self.name} cannot have written this text: its probability is 0 whatever fills the gaps"
            )
        tokens, log_q = canvas.tokens.clone(), torch.zeros(len(rows), dtype=torch.float64)
        open_, ended = self._before(canvas, inner)[0], self._nothing(len(rows))
        starts, may_end = self._ends(canvas)
        for j in inner:
            slot, over = canvas.slots[:, j], starts[:, j, None]
            open_, ended = torch.where(over, open_ + ended, open_), ended.masked_fill(over, 0)
            unused = torch.zeros_like(slot)
            if slot.any():
                ahead = beta[:, j + 1 - inner.start]
                law = self._law(open_, ended, ahead, may_end[:, j], canvas.word_start[:, j])[slot]
                law = law.where(law.sum(dim=1, keepdim=True) > 0, torch.ones_like(law))  # after an impossible token
                law = tempering(law.log())
                values = categorical(law, noise[slot, j]) if given is None else given[slot, j]
                tokens[slot, j] = values
                log_q[slot] += law.gather(1, values[:, None])[:, 0]
                unused = slot & (tokens[:, j] == self._null)
            moved = self._moves.forward(open_, tokens[:, j])
            ended = torch.where(unused[:, None], open_ + ended, 0.0)
            open_ = moved.masked_fill(unused[:, None], 0)
            open_, ended = _scaled(open_, ended)
        return tokens, log_q

    def _marginals(self, canvas: Canvas, where: Tensor) -> Tensor:
        """Log-laws of the positions asked for, `[where.sum(), vocab]`."""
        inner = self._inner(canvas)
        beta, evidence = self._backward(canvas, inner)
        batch = len(canvas)
        states = torch.zeros(batch, len(inner), 2, self.states, dtype=torch.float64)
        open_, ended = self._before(canvas, inner)[0], self._nothing(batch)
        starts, may_end = self._ends(canvas)
        for j in inner:
            slot, over = canvas.slots[:, j, None], starts[:, j, None]
            open_, ended = torch.where(over, open_ + ended, open_), ended.masked_fill(over, 0)
            states[:, j - inner.start, 0], states[:, j - inner.start, 1] = open_, ended
            moved = self._moves.forward(open_, canvas.tokens[:, j])
            if slot.any():
                over = ended + open_ * may_end[:, j, None]
                moved = torch.where(slot, self._moves.forward_any(open_, canvas.word_start[:, j]), moved)
                ended = torch.where(slot, over, 0.0)
            open_, ended = _scaled(moved, ended)
        asked = canvas.slots & where
        laws = F.one_hot(canvas.tokens, self.vocabulary.size).double()
        within = asked[:, inner.start : inner.stop]  # every slot lies there
        before, ahead = states[within], beta[:, 1:][within]
        laws[asked] = self._law(before[:, 0], before[:, 1], ahead, may_end[asked], canvas.word_start[asked])
        possible = torch.zeros(self.vocabulary.size, dtype=torch.float64).index_fill(0, self.token.unique(), 1.0)
        lost = asked & ((evidence == -torch.inf)[:, None] | (laws.sum(dim=-1) == 0))
        laws = torch.where(lost[..., None], possible, laws)
        return (laws / laws.sum(dim=-1, keepdim=True)).log()[where]

    def _law(self, open_: Tensor, ended: Tensor, ahead: Tensor, may_end: Tensor, word_start: Tensor) -> Tensor:
        """Probability of each token, null among them, in a slot: between what is before it and `ahead` of it.

        All `[rows, ...]`; rows without any possible token get zeros.
        """
        law = self._moves.law(open_, ahead[:, 0]) * (~word_start[:, None] | self.vocabulary.starts_word)
        if self.vocabulary.null is not None:
            law[:, self.vocabulary.null] = ((ended + open_ * may_end[:, None]) * ahead[:, 1]).sum(dim=1)
        return law / law.sum(dim=1, keepdim=True).clamp(min=TINY)

    def _inner(self, canvas: Canvas) -> range:
        """The columns between what all rows begin with and what all rows end with, slots not counted among these."""
        shared = ~canvas.slots.any(dim=0) & (canvas.tokens == canvas.tokens[:1]).all(dim=0)
        differing = (~shared).nonzero()[:, 0].tolist()
        return range(differing[0], differing[-1] + 1) if differing else range(0)

    def _before(self, canvas: Canvas, inner: range) -> tuple[Tensor, Tensor]:
        """Law of the state before the inner columns, `[batch, states]`, and the log-probability of what led there."""
        alpha, log_prob = self._nothing(1), torch.zeros(1, dtype=torch.float64)
        alpha[:, 0] = 1
        for j in range(inner.start):
            alpha = self._moves.forward(alpha, canvas.tokens[:1, j])
            total = alpha.sum(dim=1)
            alpha, log_prob = alpha / total.clamp(min=TINY)[:, None], log_prob + total.log()
        return alpha.expand(len(canvas), -1), log_prob

    def _backward(self, canvas: Canvas, inner: range) -> tuple[Tensor, Tensor]:
        """Messages from the right, and the log-evidence `[batch]`.

        Returns:
            `[batch, len(inner) + 1, 2, states]`: up to a factor per position, the probability of all from a column on,
            given the state before it, while its gap is open (0) and when it has ended (1).
        """
        tokens, (batch, length) = canvas.tokens, canvas.tokens.shape
        log_scale = torch.zeros(batch, dtype=torch.float64)
        last = torch.ones(1, self.states, dtype=torch.float64)
        for j in reversed(range(inner.stop, length)):
            last = self._moves.back(last, tokens[:1, j])
            scale = last.amax().clamp(min=TINY)
            last, log_scale = last / scale, log_scale + scale.log()
        beta = torch.empty(batch, len(inner) + 1, 2, self.states, dtype=torch.float64)
        beta[:, -1] = last
        starts, may_end = self._ends(canvas)
        for j in reversed(inner):
            slot, ahead = canvas.slots[:, j, None], beta[:, j + 1 - inner.start]
            now = self._moves.back(ahead[:, 0], tokens[:, j])
            if slot.any():
                moved = self._moves.back_any(ahead[:, 0], canvas.word_start[:, j])
                now = torch.where(slot, moved + may_end[:, j, None] * ahead[:, 1], now)
            over = torch.where(starts[:, j, None], now, ahead[:, 1])
            scale = torch.maximum(now, over).amax(dim=1).clamp(min=TINY)
            log_scale = log_scale + scale.log()
            beta[:, j - inner.start, 0], beta[:, j - inner.start, 1] = now / scale[:, None], over / scale[:, None]
        before, log_prob = self._before(canvas, inner)
        return beta, (before * beta[:, 0, 0]).sum(dim=1).log() + log_scale + log_prob

    def _evidence(self, tokens: Tensor, gap: Tensor, minimum: Tensor, word_start: Tensor | None = None) -> Tensor:
        starts = torch.zeros_like(gap, dtype=torch.bool) if word_start is None else word_start
        canvas = Canvas(tokens, gap < 0, gap, minimum, starts)
        return torch.cat([self._log_evidence(canvas.select(rows)) for rows in self._goes(canvas)])

    def _log_evidence(self, canvas: Canvas) -> Tensor:
        return self._backward(canvas, self._inner(canvas))[1]

    def _ends(self, canvas: Canvas) -> tuple[Tensor, Tensor]:
        """Where a gap begins or there is none (bool), and where a gap may end (1.0, else 0.0): `[batch, length]`."""
        rank, _ = rank_and_size(canvas.gap)
        starts = ~canvas.slots | (rank == 0)
        if not canvas.minimum.shape[1]:
            return starts, torch.zeros_like(canvas.gap, dtype=torch.float64)
        least = canvas.minimum.gather(1, canvas.gap.clamp(min=0))
        return starts, (canvas.slots & (rank >= least)).double()

    def _nothing(self, batch: int) -> Tensor:
        return torch.zeros(batch, self.states, dtype=torch.float64)

    def _goes(self, canvas: Canvas) -> list[Tensor]:
        """Rows that are handled at a time."""
        length = canvas.tokens.shape[1]
        slots = max(1, int(canvas.slots.sum(dim=1).max())) if len(canvas) else 1
        most = max(1, CELLS // max(2 * self.states * (length + 1), self._moves.cells * min(slots, 16)))
        return list(torch.arange(len(canvas)).split(most))

    @cached_property
    def _moves(self) -> Moves:
        own = (self.vocabulary.pad, self.vocabulary.bos, self.vocabulary.null)
        silent = torch.zeros(self.vocabulary.size, dtype=torch.bool)
        silent[[token for token in own if token is not None]] = True
        starts_word = self.vocabulary.starts_word
        arcs = Arcs(self.source, self.token, self.target, self.weight, self.stop, silent, starts_word, self._eos)
        return arcs.moves()

    @property
    def any_length(self) -> bool:
        """Whether the length of a text is given, and not part of the law."""
        return bool((self.stop == 1).all())

    @property
    def _eos(self) -> int:
        return -1 if self.vocabulary.eos is None else self.vocabulary.eos

    @property
    def _null(self) -> int:
        return -1 if self.vocabulary.null is None else self.vocabulary.null

    @property
    def _pad(self) -> int:
        assert self.vocabulary.pad is not None
        return self.vocabulary.pad


def _scaled(open_: Tensor, ended: Tensor) -> tuple[Tensor, Tensor]:
    """Both, so that together they sum to 1 in each row."""
    total = (open_ + ended).sum(dim=1, keepdim=True).clamp(min=TINY)
    return open_ / total, ended / total


def symbol_tokenizer(symbols: Sequence[str]) -> PreTrainedTokenizerBase:
    """A tokenizer whose tokens are given literally, blanks included: text is cut into the fewest of them."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    from textdiff.text import with_special_tokens

    pieces = [("<|unk|>", 0.0), *((symbol, -1.0) for symbol in symbols)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    backend.decoder = decoders.Fuse()
    plain = PreTrainedTokenizerFast(tokenizer_object=backend, split_special_tokens=True, unk_token="<|unk|>")
    return with_special_tokens(plain)
