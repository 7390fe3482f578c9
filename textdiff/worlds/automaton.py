"""Probabilistic finite automata over tokens: worlds whose posterior is known exactly.

A hidden state moves along arcs, and each arc emits one token. Enumerated tables, n-grams, hidden Markov models, regular
grammars and worked sums are all of this kind. One forward-backward recursion computes everything about them: the
posterior of several gaps at once, the evidence, marginals, and the number of tokens in a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import torch
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.files.fields import check_fields, number, whole
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
from textdiff.worlds.forward_backward import ForwardBackward
from textdiff.worlds.states import explore
from textdiff.worlds.transitions import Arcs

NATS = number(lambda value: abs(value) <= 700, "nats from -700 to 700: more has no weight as a number")


@final
@dataclass(frozen=True, eq=False)
class ProbabilisticAutomaton(Prior):
    """A distribution over texts given by an automaton: a prior, a perfect denoiser, and the truth to compare with.

    `sample` and `score` are the exact posterior given the fixed tokens. If the length of a gap is unknown, it follows
    its posterior, too. Null, bos and padding leave the state as it is; at an eos the automaton must stop. A text
    without eos is the beginning of a text. All arithmetic is float64 on the CPU.

    Args:
        tokenizer: text <-> ids.
        vocabulary: of the tokenizer.
        source, token, target: `[arcs]` long: each arc leads from a source state to a target state and emits a token.
        weight: `[arcs]` float64, probability of the arc given its source.
        stop: `[states]` float64, probability that a text ends in a state; with the weights of the state's arcs it sums
            to 1. Or it is 1 everywhere: then the length of a text is not part of the distribution, but given.
        name: a short description.
        normalised: whether `weight` and `stop` must be probabilities; if they are not, joints and evidences are known
            up to a factor, and posteriors exactly.

    The first state is the initial one.

    Raises:
        UserError: the probabilities out of a state do not sum to 1.
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
        total = out if self.any_length else out + self.stop
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
        """Build the automaton of all states that can be reached from the initial one.

        Args:
            tokenizer: its tokens are looked up by their literal text.
            start: the initial state.
            moves: state -> arcs (text of the token, probability, next state), and the probability of stopping.
            name: a short description.

        Raises:
            UserError: more than a million states.
        """
        vocabulary = Vocabulary.of(tokenizer)
        return cls(tokenizer, vocabulary, *explore(tokenizer.get_vocab(), start, moves, name), name)

    def tilted(self, rewards: Mapping[str, float]) -> ProbabilisticAutomaton:
        """The distribution in which a text is exp(sum of the rewards of its tokens) times as likely, unnormalised.

        Its posterior given fixed tokens is this world's posterior under a reward for each token of a gap: rewards of
        the fixed tokens change the evidence alone.

        Args:
            rewards: nats by the literal text of a token; 0 for all others.

        Raises:
            UserError: a text that is no token.
        """
        nats, ids = torch.zeros(self.vocabulary.size, dtype=torch.float64), self.tokenizer.get_vocab()
        for text, value in rewards.items():
            NATS.check("a reward", value)
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
        """The name of the world."""
        return f"exact world, {self.name}"

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.stop)

    @property
    def any_length(self) -> bool:
        """Whether the length of a text is given, and not part of the distribution."""
        return bool((self.stop == 1).all())

    def with_policy(
        self, policy: UnmaskingPolicy | str | None = None, steps: int | None = None
    ) -> ProbabilisticAutomaton:
        """Refuse: a world draws from the exact posterior.

        Raises:
            UserError: always.
        """
        raise UserError(
            "an exact world needs no policy or steps: leave them out, or give it to a DiffusionPrior as its network"
        )

    # Probabilities

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Exact log-probability of complete texts `[batch, length]`, in nats, float64 `[batch]`."""
        nowhere = torch.zeros_like(tokens, dtype=torch.bool)
        gap, minimum = torch.full_like(tokens, -1), tokens.new_zeros(len(tokens), 0)
        return self.log_evidence(Canvas(tokens, ~nowhere, gap, minimum, nowhere))

    def log_density(self, canvas: Canvas, tokens: Tensor) -> tuple[Tensor, int]:
        """The exact joint."""
        return self.log_prob(tokens), 0

    def log_partial(self, tokens: Tensor, masked: Tensor) -> tuple[Tensor, Tensor] | None:
        """The exact marginal log-probability of all tokens that are not masked."""
        canvas = Canvas.of(tokens, self.vocabulary.mask)
        return self.log_evidence(canvas), ~masked

    def log_evidence(self, canvas: Canvas) -> Tensor:
        """Exact log-probability of the fixed tokens of each row, summed over all fills of its gaps: `[batch]`, nats."""
        return self._recursion.log_evidence(canvas)

    def length_log_probs(self, canvas: Canvas, gap: int = 0) -> Tensor:
        """Exact posterior of the number of tokens in a gap, `[batch, slots + 1]`, -inf where it is out of bounds."""
        most = int(canvas.maximum[:, gap].max())
        columns = []
        for n in range(most + 1):
            unused = (canvas.gap == gap) & (rank_and_size(canvas.gap)[0] >= n)
            of_length = Canvas(
                canvas.tokens.masked_fill(unused, self._null),
                canvas.observed | unused,
                canvas.gap.masked_fill(unused, -1),
                canvas.minimum.index_fill(1, torch.tensor(gap), n),
                canvas.word_start,
            )
            possible = (n >= canvas.minimum[:, gap]) & (n <= canvas.maximum[:, gap])
            columns.append(self.log_evidence(of_length).where(possible, -torch.inf))
        return torch.stack(columns, dim=1).log_softmax(dim=1)

    def simulate(self, n: int, generator: Generator | int | None = None, longest: int = 512) -> Tensor:
        """Draw whole texts, bos and eos around each, padded: ids `[n, at most longest]`.

        Raises:
            UserError: the length of a text is not part of the distribution: call `sample` on a canvas of that length.
        """
        if self.any_length:
            raise UserError(
                f"the world {self.name} has no distribution of lengths: sample a canvas of the wanted length"
            )
        check_fields({"n": n, "longest": longest}, {"n": whole(1, 2**20), "longest": whole(1, 2**16)})
        generator, reached = seeded(generator), self.weight.cumsum(0)
        ends = torch.searchsorted(self.source, torch.arange(self.states), right=True)
        before = torch.cat((reached.new_zeros(1), reached))  # the arcs of a state follow each other
        begins = torch.cat((ends.new_zeros(1), ends[:-1]))
        state, running = torch.zeros(n, dtype=torch.long), torch.ones(n, dtype=torch.bool)
        columns = [torch.full((n,), int(self.vocabulary.bos or 0))]
        while running.any() and len(columns) < longest:
            first, out = before[begins[state]], before[ends[state]] - before[begins[state]]
            mark = torch.rand(n, dtype=torch.float64, generator=generator) * (out + self.stop[state])
            arc = torch.searchsorted(reached, first + mark, right=True).clamp(max=ends[state] - 1).clamp(min=0)
            stops = mark >= out
            token = self.token[arc].where(~stops, self._eos).where(running, self._pad)
            state, running = self.target[arc], running & ~stops
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
            UserError: evidence of probability 0.
        """
        streams = Streams.of(generator, canvas.slots)
        parts = []
        for rows in self._recursion.chunks(canvas):
            noise = streams.uniforms(rows, torch.zeros_like(rows))[0]

            def drawn(log_probs: Tensor, slot: Tensor, column: int, noise: Tensor = noise) -> Tensor:
                return categorical(log_probs, noise[slot, column])

            parts.append(self._recursion.fill(canvas.select(rows), tempering, drawn))
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
            UserError: evidence of probability 0.
            ValueError: `tokens` differ from the evidence or in shape.
        """
        if tokens.shape != canvas.tokens.shape or (tokens != canvas.tokens)[~canvas.slots].any():
            raise ValueError("tokens to score differ from the canvas in shape or outside its gaps")
        parts = []
        for rows in self._recursion.chunks(canvas):

            def given(log_probs: Tensor, slot: Tensor, column: int, tokens: Tensor = tokens[rows]) -> Tensor:
                return tokens[slot, column]

            parts.append(self._recursion.fill(canvas.select(rows), tempering, given)[1])
        nfe = canvas.slots.any(dim=1).long()
        return Trajectory(tokens, torch.cat(parts), LogProbKind.EXACT, nfe, nfe)

    def log_probs(self, canvas: Tensor, observed: Tensor, where: Tensor | None = None, null: bool = False) -> Tensor:
        """The exact conditional marginals of each position: a perfect denoiser (`textdiff.denoisers.Denoiser`).

        Masked runs are gaps of exactly that length, or with `null` of at most that length. On a canvas of probability 0
        all tokens are equally likely.
        """
        known = Canvas.of(canvas, self.vocabulary.mask)
        if null:
            known = replace(known, minimum=torch.zeros_like(known.minimum))
        wanted = torch.ones_like(canvas, dtype=torch.bool) if where is None else where
        chunks = self._recursion.chunks(known)
        log_probs = torch.cat([self._recursion.marginals(known.select(rows), wanted[rows]) for rows in chunks])
        return log_probs if where is not None else log_probs.view(*canvas.shape, -1)

    @cached_property
    def _recursion(self) -> ForwardBackward:
        textless = (self.vocabulary.pad, self.vocabulary.bos, self.vocabulary.null)
        silent = torch.zeros(self.vocabulary.size, dtype=torch.bool)
        silent[[token for token in textless if token is not None]] = True
        starts_word = self.vocabulary.starts_word
        arcs = Arcs(self.source, self.token, self.target, self.weight, self.stop, silent, starts_word, self._eos)
        return ForwardBackward(arcs, self._null, self.name)

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
