"""Denoising under an unmasking policy: fills of a canvas's gaps are drawn, scored, or moved as particles."""

from __future__ import annotations

from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from textdiff.denoisers import CachedDenoiser, Denoiser, is_ordered
from textdiff.errors import UserError
from textdiff.samplers.categorical import without
from textdiff.samplers.decoder import Decoder, run
from textdiff.samplers.open_gaps import close_gaps
from textdiff.samplers.policies.policy import LogProbKind, UnmaskingPolicy, revealed_by
from textdiff.samplers.random_streams import Randomness, Streams
from textdiff.samplers.remask import Remask
from textdiff.samplers.state import DenoisingState
from textdiff.samplers.tempering import NEUTRAL, Tempering
from textdiff.samplers.token_draws import Answer, CandidateDraw, ConstrainedDraw, RevealedDraw, TokenDraw
from textdiff.samplers.trajectory import GivenTokens, Progress, Steer, Trajectory, Watch
from textdiff.text import Canvas, Vocabulary

ROWS_AT_ONCE = 2048
"""Slots that are scored in one pass, at most, where a pass scores trajectories: more would not fit a CPU's caches."""


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    canvas: Canvas,
    vocabulary: Vocabulary,
    policy: UnmaskingPolicy,
    generator: Randomness,
    *,
    tempering: Tempering = NEUTRAL,
    watch: Watch | None = None,
) -> Trajectory:
    """Fill the gaps of every row of a canvas.

    Each row has a random stream of its own, seeded by one number from `generator`: its fill does not depend on the
    other rows, on padding or on how many rows are sampled in one call.

    Args:
        denoiser: asked about the masked slots of unfinished rows only.
        canvas: what is known, and the gaps.
        vocabulary: says which tokens may stand where.
        policy: which slots are filled next.
        generator: the source of all randomness, or a seed for each row, int64 `[batch]`.
        tempering: sharpens the distribution of each token; that of the lengths by its temperature only.
        watch: called after each step with the canvas `[batch, length]` and the slots just filled, bool likewise. A
            policy may mask filled slots again: they hold the mask token.

    Raises:
        UserError: a gap of unknown length but no `null` in the vocabulary.
        ValueError: the denoiser leaves a slot no allowed token.
    """
    denoising = Denoising(denoiser, canvas, vocabulary, policy, generator, tempering=tempering)
    if watch is not None and denoising.unused_slots is not None:
        watch(denoising.progress.tokens.clone(), denoising.unused_slots)
    return run(denoising, watch)


@torch.no_grad()
def steered(
    denoiser: Denoiser,
    canvas: Canvas,
    vocabulary: Vocabulary,
    policy: UnmaskingPolicy,
    generator: torch.Generator,
    steer: Steer,
    *,
    given_tokens: GivenTokens | None = None,
) -> Trajectory:
    """`sample` as a particle system: rows may be replaced by others between two steps.

    Args:
        denoiser, canvas, vocabulary, policy, generator: see `sample`; all rows of the canvas are alike.
        steer: called after the lengths are drawn and after each step.
        given_tokens: texts that some rows follow instead of drawing.
    """
    denoising = Denoising(denoiser, canvas, vocabulary, policy, generator, given_tokens=given_tokens)
    return run(denoising, steer=steer)


def path_log_prob(
    denoiser: Denoiser,
    canvas: Canvas,
    vocabulary: Vocabulary,
    policy: UnmaskingPolicy,
    tokens: Tensor,
    *,
    tempering: Tempering = NEUTRAL,
    generator: torch.Generator | None = None,
) -> Trajectory:
    """Log-probability that `sample`, called with the same arguments, draws `tokens [batch, length]`.

    The same loop, with the tokens given; one pass for all steps if the denoiser is order-causal and the policy does not
    look at its answers. Differentiable in the denoiser's parameters; -inf for a fill that cannot be
    drawn. For kind `GIVEN_ORDER` a generator draws the orders: in the state that `sample` started from, the same ones.

    Raises:
        UserError: the policy's draws have no log-probability, or it draws an order and there is no generator.
        ValueError: `tokens` differ from the evidence or in shape; the denoiser leaves a slot no allowed token.
    """
    if policy.kind is LogProbKind.NONE:
        raise UserError(
            f"{type(policy).__name__} has no log-probability: it looks at the drawn tokens, or draws some of them anew"
        )
    if generator is None:
        if policy.kind is LogProbKind.GIVEN_ORDER:
            raise UserError(f"{type(policy).__name__} draws its order at random: path_log_prob needs a generator")
        generator = torch.Generator().manual_seed(0)  # an order that is a function of the canvas draws nothing
    if tokens.shape != canvas.tokens.shape or (tokens != canvas.tokens)[~canvas.slots].any():
        raise ValueError("tokens to score differ from the canvas in shape or outside its gaps")
    given = GivenTokens.everywhere(tokens)
    return run(Denoising(denoiser, canvas, vocabulary, policy, generator, tempering=tempering, given_tokens=given))


@final
class Denoising(Decoder):
    """Denoises a canvas: each step queries the denoiser, and fills the slots that the policy chooses.

    The lengths of gaps are drawn at once, when it is made. The arguments are those of `sample` and `steered`.

    Attributes:
        unused_slots: bool `[batch, length]`, slots that the drawn lengths leave unused; None if no length was drawn.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        canvas: Canvas,
        vocabulary: Vocabulary,
        policy: UnmaskingPolicy,
        generator: Randomness,
        *,
        tempering: Tempering = NEUTRAL,
        given_tokens: GivenTokens | None = None,
    ) -> None:
        has_density = policy.kind is not LogProbKind.NONE
        if not has_density:
            canvas = canvas.free()  # no weight would turn draws without a density into draws given a constraint
        self._canvas, self._vocabulary = canvas, vocabulary.to(canvas.tokens.device)
        self._policy, self._tempering, self._given = policy, tempering, given_tokens
        self._all_given = given_tokens is not None and bool(given_tokens.rows.all())
        self._blind = policy.blind and canvas.dfa is None
        # An order-causal denoiser scores a whole trajectory in one pass, if its order is known before it is asked.
        self._at_once = self._blind and self._all_given and has_density and is_ordered(denoiser)
        self._remask = None if has_density else Remask(policy, vocabulary.mask)
        self._streams = Streams.of(generator, canvas.slots)

        cached, temperature = CachedDenoiser(denoiser, canvas.tokens, canvas.observed), tempering.temperature
        gaps = close_gaps(cached, canvas, self._vocabulary, self._streams, given_tokens, temperature)
        self.unused_slots = canvas.slots & (gaps.gap < 0) if gaps.nfe.any() else None
        if self.unused_slots is not None:  # unused slots take no position: the evidence after them has moved
            cached = CachedDenoiser(denoiser, gaps.tokens, canvas.observed)
        # How often each place in the batch has used its random stream; not selected, so a copy of a row draws afresh.
        self._calls = gaps.nfe.clamp(max=1)
        constrained = canvas.dfa is not None
        self._state = DenoisingState.begin(gaps, cached, has_density=has_density, constrained=constrained)

    @property
    def progress(self) -> Progress:
        return self._state.progress

    def select(self, rows: Tensor) -> None:
        self._state = self._state.select(rows)

    def step(self) -> Tensor:
        if self._at_once:
            return self._score()
        state, progress, policy = self._state, self._state.progress, self._policy
        rows = progress.masked.any(dim=1).nonzero()[:, 0]
        noise, order_noise = self._streams.uniforms(rows, self._calls[rows])
        view = state.view(rows, order_noise, self._vocabulary.size)
        asked = revealed_by(policy, view) if self._blind else view.masked
        first = not progress.steps.any()
        log_probs = state.denoiser.log_probs(rows, view.canvas, asked, alike=first, times=view.when, keep=True)
        log_probs = self._allowed(log_probs, rows, asked)
        answer = Answer(view.canvas, view.masked, asked, log_probs, noise)
        draw = self._draw(answer)
        revealed = asked
        if not self._blind:
            drawn = draw.candidates if isinstance(draw, CandidateDraw) else None
            view = replace(view, log_probs=log_probs.detach(), drawn=drawn)
            revealed = revealed_by(policy, view)

        scoring = draw.log_probs(revealed)
        values = self._values(draw, scoring, rows, revealed)
        state.reveal(rows, revealed, values, scoring.gather(1, values[:, None])[:, 0])
        if self._remask is not None:
            confidence = answer.at(revealed).gather(1, values[:, None])[:, 0].double()
            self._remask(state, rows, view, revealed, confidence)
        if progress.constraint is not None and isinstance(draw, ConstrainedDraw):
            now = progress.tokens[rows], progress.masked[rows]
            progress.constraint = draw.update(progress.constraint, rows, *now, revealed)
        progress.nfe[rows] += state.denoiser.passes()
        progress.steps[rows] += 1
        self._calls[rows] += 1
        return torch.zeros_like(progress.masked).index_copy(0, rows, revealed)

    def trajectory(self) -> Trajectory:
        progress, kind = self.progress, self._policy.kind
        log_q = None if kind is LogProbKind.NONE else progress.log_q
        if self._canvas.dfa is None:
            return Trajectory(progress.tokens, log_q, kind, progress.nfe, progress.steps)
        assert log_q is not None and progress.constraint is not None
        log_excess = progress.constraint.log_excess
        lost = ~self._canvas.dfa.accepts(progress.tokens) | (log_excess == -torch.inf)
        return Trajectory(
            progress.tokens,
            (log_q - log_excess).masked_fill(lost, -torch.inf),
            kind,
            progress.nfe,
            progress.steps,
            log_excess.masked_fill(lost, -torch.inf),
        )

    def _score(self) -> Tensor:
        """Score the given tokens in one pass, in the order that the policy fills them."""
        state, progress = self._state, self._state.progress
        assert self._given is not None
        slots = progress.masked.clone()
        while progress.masked.any():
            rows = progress.masked.any(dim=1).nonzero()[:, 0]
            view = state.view(rows, self._streams.uniforms(rows, self._calls[rows])[1], self._vocabulary.size)
            revealed = revealed_by(self._policy, view)
            values = self._given.tokens[rows][revealed]
            state.reveal(rows, revealed, values, values.new_zeros(len(values), dtype=torch.float64))
            progress.steps[rows] += 1
            self._calls[rows] += 1
        at_once = max(1, ROWS_AT_ONCE // max(1, int(slots.sum(dim=1).max())))
        for rows in torch.arange(len(slots), device=slots.device).split(at_once):
            tokens, where = progress.tokens[rows], slots[rows]
            log_probs = state.denoiser.trajectory_log_probs(rows, tokens, where, state.when[rows])
            scores = self._tempering(self._allowed(log_probs, rows, where)).gather(1, tokens[where][:, None])[:, 0]
            scores_of_slots = progress.slot_log_q.new_zeros(where.shape).masked_scatter(where, scores)
            progress.slot_log_q = progress.slot_log_q.index_add(0, rows, scores_of_slots)
        progress.nfe += state.denoiser.passes() * slots.any(dim=1)
        return slots

    def _allowed(self, log_probs: Tensor, rows: Tensor, asked: Tensor) -> Tensor:
        """The log-probs of the slots `asked [rows, length]` without tokens that may not stand there."""
        inside_word = self._canvas.word_start[rows][asked][:, None] & ~self._vocabulary.starts_word
        return without(log_probs, self._vocabulary.forbidden | inside_word)

    def _draw(self, answer: Answer) -> TokenDraw:
        """The draw that the canvas and the policy call for."""
        if self._canvas.dfa is not None:
            return ConstrainedDraw(answer, self._tempering, self._canvas.dfa)
        if self._policy.kind is LogProbKind.NONE and not self._blind:
            return CandidateDraw(answer, self._tempering)
        return RevealedDraw(answer, self._tempering)

    def _values(self, draw: TokenDraw, log_probs: Tensor, rows: Tensor, revealed: Tensor) -> Tensor:
        """Tokens of the slots `revealed [rows, length]`: drawn, or given."""
        if self._given is None:
            return draw.values(revealed, log_probs)
        given = self._given.tokens[rows][revealed]
        if self._all_given:
            return given
        follows = self._given.rows[rows].repeat_interleave(revealed.sum(dim=1))
        return torch.where(follows, given, draw.values(revealed, log_probs))
