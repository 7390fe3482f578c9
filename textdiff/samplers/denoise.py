"""The one denoising loop: it draws fills of a canvas's gaps, scores given ones, or moves a system of particles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from textdiff.denoisers import CachedDenoiser, Denoiser
from textdiff.errors import UserError
from textdiff.samplers.categorical import NEUTRAL, Randomness, Streams, Tempering, categorical
from textdiff.samplers.constrained import Constrained
from textdiff.samplers.lengths import by_gap, count_tokens, length_log_probs, rank_and_size
from textdiff.samplers.policies.policy import LogProbKind, State, UnmaskingPolicy
from textdiff.text import Canvas, Vocabulary

NO_NULL = "the vocabulary has no null token for a gap of unknown length: give exact lengths, or draw with ByLength()"

Watch = Callable[[Tensor, Tensor], None]


@dataclass(frozen=True, eq=False)
class Progress:
    """Where the denoising of a batch stands between two steps.

    Attributes:
        tokens: `[batch, length]`, mask where still unknown, null in unused slots.
        masked: bool `[batch, length]`, slots that are still to be filled.
        slot_log_q: float64 `[batch, length]`, log-probability with which each slot was filled, 0 elsewhere.
        length_log_q: float64 `[batch]`, log-probability of the lengths that were drawn.
        log_excess: float64 `[batch]`, see `Trajectory`, of what was drawn so far.
        log_ahead: float64 `[batch]`, log of the share of what may follow that the canvas's lattice allows, as far as
            the last step knew; up to a constant.
    """

    tokens: Tensor
    masked: Tensor
    slot_log_q: Tensor
    length_log_q: Tensor
    log_excess: Tensor
    log_ahead: Tensor


Steer = Callable[[Progress], Tensor | None]
"""Between two steps: rows `[batch]` with which the batch goes on in place of its own, or None to leave it alone."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Filled canvases and what their sampler knows of them.

    Attributes:
        tokens: complete texts `[batch, length]`, unused slots of a gap hold `null`.
        log_q: float64 `[batch]`, nats: log-probability of the fill under the sampler, in the sense of `kind`; None for
            kind `NONE`.
        kind: the policy's claim about `log_q`.
        nfe: `[batch]`, forward passes that each row took part in: one for each step, several of a `Composed` denoiser,
            and those for the lengths of a row with a gap of unknown length.
        steps: `[batch]`, how often tokens were revealed.
        log_excess: float64 `[batch]`, nats: what the sampler without the canvas's lattice gives to the same trajectory,
            less `log_q`. It is the weight that turns draws which satisfy the lattice into draws of the sampler's law
            given that they do; -inf where earlier draws had left nothing that does. None without a lattice or density.
    """

    tokens: Tensor
    log_q: Tensor | None
    kind: LogProbKind
    nfe: Tensor
    steps: Tensor
    log_excess: Tensor | None = None


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    canvas: Canvas,
    vocabulary: Vocabulary,
    policy: UnmaskingPolicy,
    generator: Randomness,
    tempering: Tempering = NEUTRAL,
    watch: Watch | None = None,
) -> Trajectory:
    """Fill the gaps of every row of a canvas.

    A row draws from a random stream of its own, seeded by one number from `generator`: its fill does not depend on the
    other rows, on padding or on how many rows are sampled in one call.

    Args:
        denoiser: asked about the masked slots of unfinished rows only.
        canvas: what is known, and the gaps.
        vocabulary: says which tokens may stand where.
        policy: which slots are filled next.
        generator: the source of all randomness, or a seed for each row, int64 `[batch]`.
        tempering: sharpens the law of the tokens; of the lengths only by its temperature.
        watch: called after each step with the canvas `[batch, length]` and the slots just filled, bool likewise. A
            policy may mask filled slots again: they hold the mask token.

    Raises:
        UserError: a gap of unknown length but no `null` in the vocabulary.
        ValueError: the denoiser leaves a slot no allowed token.
    """
    return _denoise(denoiser, canvas, vocabulary, policy, generator, None, None, tempering, watch, None)


@torch.no_grad()
def steered(
    denoiser: Denoiser,
    canvas: Canvas,
    vocabulary: Vocabulary,
    policy: UnmaskingPolicy,
    generator: torch.Generator,
    steer: Steer,
    retained: Tensor | None = None,
    forced: Tensor | None = None,
) -> Trajectory:
    """`sample` as a particle system: rows may be replaced by others between two steps.

    Args:
        denoiser, canvas, vocabulary, policy, generator: see `sample`; all rows of the canvas are alike.
        steer: called after the lengths are drawn and after each step.
        retained, forced: rows that are forced, bool `[batch]`, follow their complete text in `retained [batch, length]`
            instead of drawing.
    """
    return _denoise(denoiser, canvas, vocabulary, policy, generator, retained, forced, NEUTRAL, None, steer)


def path_log_prob(
    denoiser: Denoiser,
    canvas: Canvas,
    vocabulary: Vocabulary,
    policy: UnmaskingPolicy,
    tokens: Tensor,
    tempering: Tempering = NEUTRAL,
    generator: torch.Generator | None = None,
) -> Trajectory:
    """Log-probability that `sample`, called with the same arguments, draws `tokens [batch, length]`.

    The loop is walked with the tokens given. Differentiable in the denoiser's parameters; -inf for a fill that cannot
    be drawn. For kind `GIVEN_ORDER` a generator draws the orders: with the state that `sample` started from, the same.

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
    forced = torch.ones_like(tokens[:, 0], dtype=torch.bool)
    return _denoise(denoiser, canvas, vocabulary, policy, generator, tokens, forced, tempering, None, None)


def _denoise(
    denoiser: Denoiser,
    canvas: Canvas,
    vocabulary: Vocabulary,
    policy: UnmaskingPolicy,
    generator: Randomness,
    target: Tensor | None,
    forced: Tensor | None,
    tempering: Tempering,
    watch: Watch | None,
    steer: Steer | None,
) -> Trajectory:
    """Draw the fills; rows that are `forced` walk the same way with the tokens of the `target`."""
    vocabulary = vocabulary.to(canvas.tokens.device)
    if policy.kind is LogProbKind.NONE:
        canvas = canvas.free()  # without a density no weight would make such draws those of a constrained law
    streams = Streams.of(generator, canvas.slots)
    reading = CachedDenoiser(denoiser, canvas.tokens, canvas.observed)
    tokens, gap, length_log_q, excess, nfe = _set_lengths(
        reading, canvas, vocabulary, streams, target, forced, Tempering(tempering.temperature)
    )
    ahead = -excess
    if nfe.any():  # unused slots are no text: where what follows them stands is known only now
        reading = CachedDenoiser(denoiser, tokens, canvas.observed)
    if watch is not None and nfe.any():
        watch(tokens.clone(), canvas.slots & (gap < 0))

    all_forced = target is not None and forced is not None and bool(forced.all())
    blind = policy.blind and canvas.dfa is None
    rank, size = rank_and_size(gap)
    masked, steps = gap >= 0, torch.zeros_like(nfe)
    when = torch.full_like(gap, -1)
    slot_log_q = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
    confidence = torch.zeros_like(slot_log_q) if policy.kind is LogProbKind.NONE else None
    turn = nfe.clamp(max=1)  # of a row's place in the batch, not of what stands there: a copy of a row draws afresh
    while True:
        if steer is not None:
            parents = steer(Progress(tokens, masked, slot_log_q, length_log_q, excess, ahead))
            if parents is not None:
                tokens, gap, masked, slot_log_q, length_log_q, excess, ahead, nfe, steps = (
                    x[parents] for x in (tokens, gap, masked, slot_log_q, length_log_q, excess, ahead, nfe, steps)
                )
                rank, size, when, reading = rank[parents], size[parents], when[parents], reading.select(parents)
        if not len(rows := masked.any(dim=1).nonzero()[:, 0]):
            break
        where = masked[rows]
        noise, order_noise = streams.uniforms(rows, turn[rows])
        state = State(
            tokens[rows],
            where,
            gap[rows],
            rank[rows],
            size[rows],
            slot_log_q.new_empty(0, vocabulary.size),
            order_noise,
            when[rows],
            confidence=None if confidence is None else confidence[rows],
        )
        asked = policy.reveal(state) if blind else where
        law = reading.log_probs(rows, tokens[rows], asked, alike=not steps.any())
        inside_word = canvas.word_start[rows][asked][:, None] & ~vocabulary.starts_word
        law = _normalised(law, vocabulary.forbidden | inside_word)
        drawn, before = None, None
        draws_all = canvas.dfa is not None or (policy.kind is LogProbKind.NONE and not blind)
        tempered = tempering(law) if draws_all else law
        if canvas.dfa is not None:
            before = Constrained(canvas.dfa, tokens[rows], where, tempered)
            mass = before.mass()
            if not tempering.neutral and (mass == -torch.inf).any():
                raise UserError(f"too little is left to draw from for {canvas.dfa.description}: raise top_p or top_k")
            drawn = tokens[rows] if all_forced else tokens[rows].masked_scatter(where, before.draw(noise))
        elif draws_all:
            drawn = tokens[rows].masked_scatter(where, categorical(tempered, noise[where]))
        if not blind:
            looked_at = drawn if policy.kind is LogProbKind.NONE else None
            state = replace(state, log_probs=law.detach(), drawn=looked_at)
        revealed = asked if blind else policy.reveal(state)
        assert not (revealed & ~where).any() and revealed.any(dim=1).all()

        plain = law if blind else law[revealed[where]]
        law = tempering(plain) if before is None else tempered[revealed[where]]
        if drawn is not None:
            values = drawn[revealed]
        elif not all_forced:
            values = categorical(law, noise[revealed])
        if target is not None:
            given = target[rows][revealed]
            assert forced is not None
            values = (
                given if all_forced else torch.where(forced[rows].repeat_interleave(revealed.sum(dim=1)), given, values)
            )
        scores = slot_log_q.new_zeros(where.shape).masked_scatter(revealed, law.gather(1, values[:, None])[:, 0])
        slot_log_q = slot_log_q.index_add(0, rows, scores)
        tokens[rows] = tokens[rows].masked_scatter(revealed, values)
        masked[rows] = where & ~revealed
        when[rows] = torch.where(revealed, steps[rows, None], when[rows])
        if confidence is not None:
            hidden = policy.hide(state)
            assert not (hidden & ~state.filled).any()
            tokens[rows] = tokens[rows].masked_fill(hidden, vocabulary.mask)
            masked[rows] |= hidden
            when[rows] = when[rows].masked_fill(hidden, -1)
            surety = plain.gather(1, values[:, None])[:, 0].double()
            confidence[rows] = confidence[rows].masked_scatter(revealed, surety).masked_fill(hidden, 0.0)
        if canvas.dfa is not None:
            after = Constrained(canvas.dfa, tokens[rows], masked[rows], tempered[~revealed[where]]).mass()
            excess = excess.index_add(0, rows, (mass - after).nan_to_num(nan=-torch.inf))
            ahead = ahead.index_copy(0, rows, after)
        nfe[rows] += reading.passes()
        turn[rows] += 1
        steps[rows] += 1
        if watch is not None:
            watch(tokens.clone(), torch.zeros_like(masked).index_copy(0, rows, revealed))

    log_q = None if policy.kind is LogProbKind.NONE else length_log_q + slot_log_q.sum(dim=1)
    if canvas.dfa is None:
        return Trajectory(tokens, log_q, policy.kind, nfe, steps)
    assert log_q is not None
    lost = ~canvas.dfa.accepts(tokens) | (excess == -torch.inf)
    return Trajectory(
        tokens,
        (log_q - excess).masked_fill(lost, -torch.inf),
        policy.kind,
        nfe,
        steps,
        excess.masked_fill(lost, -torch.inf),
    )


def _set_lengths(
    reading: CachedDenoiser,
    canvas: Canvas,
    vocabulary: Vocabulary,
    streams: Streams,
    target: Tensor | None,
    forced: Tensor | None,
    tempering: Tempering,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Decide how many tokens each gap of unknown length gets, all gaps of a row from one forward pass.

    Returns:
        The canvas with `null` in unused slots, the gap of each slot with -1 there, both `[batch, length]`; the lengths'
        log-probability without a lattice, what it is above that with one, and the forward passes spent, all `[batch]`.
    """
    tokens, gap = canvas.tokens.clone(), canvas.gap.clone()
    log_q = torch.zeros(len(canvas), dtype=torch.float64, device=tokens.device)
    nfe = torch.zeros(len(canvas), dtype=torch.long, device=tokens.device)
    if (canvas.minimum > canvas.maximum).any():
        raise ValueError("a gap's minimum is above its number of slots")
    rows = (canvas.minimum < canvas.maximum).any(dim=1).nonzero()[:, 0]
    if not len(rows):
        return tokens, gap, log_q, log_q, nfe
    null = vocabulary.null
    if null is None:
        raise UserError(NO_NULL)

    minimum, slots, where = canvas.minimum[rows], gap[rows], canvas.slots[rows]
    law = reading.log_probs(rows, tokens[rows], where, null=True, alike=True)
    law = _normalised(law, vocabulary.forbidden)
    of_lengths = tempering(length_log_probs(law, null, slots, minimum))
    noise, _ = streams.uniforms(rows, nfe[rows])
    given = None if target is None else count_tokens(target[rows][where], null, slots, minimum.shape[1])
    if canvas.dfa is None:
        first = by_gap(noise[where], slots, minimum.shape[1])[..., 0]
        lengths = categorical(of_lengths.detach().flatten(0, 1), first.flatten()).view_as(minimum)
        if given is not None:
            assert forced is not None
            lengths = torch.where(forced[rows, None], given, lengths)
    else:
        inside_word = canvas.word_start[rows][where][:, None] & ~vocabulary.starts_word
        inside_word[:, null] = False
        constrained = Constrained(canvas.dfa, tokens[rows], where, law.masked_fill(inside_word, -torch.inf))
        chosen = None if given is None or forced is None else forced[rows]
        lengths, constrained_log_q = constrained.lengths(slots, of_lengths, null, noise, given, chosen)
    unused = where & (rank_and_size(slots)[0] >= lengths.gather(1, slots.clamp(min=0)))
    tokens[rows], gap[rows] = tokens[rows].masked_fill(unused, null), slots.masked_fill(unused, -1)
    nfe[rows] = reading.passes(null=True)
    length_log_q = of_lengths.gather(2, lengths[..., None]).sum(dim=(1, 2))
    excess = torch.zeros_like(log_q)
    if canvas.dfa is not None:
        possible = constrained_log_q > -torch.inf
        excess = excess.index_add(0, rows, (length_log_q - constrained_log_q).where(possible, -torch.inf))
    return tokens, gap, log_q.index_add(0, rows, length_log_q), excess, nfe


@torch.no_grad()
def null_length_log_probs(denoiser: Denoiser, canvas: Canvas, vocabulary: Vocabulary) -> Tensor:
    """Law of the number of tokens in each gap as `sample` draws it: float64 `[batch, gaps, longest gap + 1]`.

    Raises:
        UserError: there is no `null` in the vocabulary.
    """
    if (null := vocabulary.null) is None:
        raise UserError(NO_NULL)
    law = denoiser.log_probs(canvas.tokens, canvas.observed, canvas.slots, null=True)
    forbidden = vocabulary.to(canvas.tokens.device).forbidden
    return length_log_probs(_normalised(law, forbidden), null, canvas.gap, canvas.minimum)


def _normalised(log_probs: Tensor, never: Tensor) -> Tensor:
    """The law of each slot without the tokens that may `never` stand there; `[slots, vocab]`, `never` broadcasts."""
    law = log_probs.masked_fill(never, -torch.inf).log_softmax(dim=-1)
    if law.isnan().any():
        raise ValueError("the denoiser leaves a slot no allowed token: its log-probs are NaN, or -inf on all of them")
    return law
