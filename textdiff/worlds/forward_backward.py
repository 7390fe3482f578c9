"""The forward-backward recursion of an automaton over canvases with gaps (Rabiner 1989)."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from textdiff.errors import Impossible
from textdiff.samplers import Tempering
from textdiff.samplers.lengths import rank_and_size
from textdiff.text import Canvas
from textdiff.worlds.transitions import Arcs

MOST_NUMBERS = 2**25
"""Most numbers in one array of a recursion; larger batches are split into chunks of rows."""

TINY = torch.finfo(torch.float64).tiny

Choose = Callable[[Tensor, Tensor, int], Tensor]
"""Log-probs `[n, vocab]` of the n slots of a column, the rows with these slots (bool `[rows]`), and the number of the
column -> token ids `[n]`."""


@final
class ForwardBackward:
    """Exact inference about texts of an automaton, given the fixed tokens of canvases.

    A slot holds a token, or null once its gap has ended. So the recursion runs over pairs of a state of the automaton
    and a flag of the current gap: still `open`, or `ended`, after which only null follows. All arithmetic is float64.

    Columns that all rows share at the beginning and at the end of a text are computed once; the columns between them
    are called inner.

    Args:
        arcs: of the automaton; the first state is the initial one.
        null: id of the null token, -1 if there is none.
        name: of the automaton, in messages.
    """

    def __init__(self, arcs: Arcs, null: int, name: str) -> None:
        self._arcs, self._null, self._name = arcs, null, name
        self._transitions = arcs.transitions()

    def chunks(self, canvas: Canvas) -> list[Tensor]:
        """Indices of the rows that fit into memory at a time."""
        length = canvas.tokens.shape[1]
        slots = max(1, int(canvas.slots.sum(dim=1).max())) if len(canvas) else 1
        numbers = max(2 * self._arcs.states * (length + 1), self._transitions.cells * min(slots, 16))
        return list(torch.arange(len(canvas)).split(max(1, MOST_NUMBERS // numbers)))

    def log_evidence(self, canvas: Canvas) -> Tensor:
        """Log-probability of the fixed tokens of each row, summed over all fills of its gaps: `[batch]`, nats."""
        parts = [canvas.select(rows) for rows in self.chunks(canvas)]
        return torch.cat([self._backward(part, _inner(part))[1] for part in parts])

    def fill(self, canvas: Canvas, tempering: Tempering, choose: Choose) -> tuple[Tensor, Tensor]:
        """Fill the slots from left to right with chosen tokens; returns the texts, and their log-probabilities.

        Raises:
            Impossible: fixed tokens of probability 0.
        """
        rows, inner = len(canvas), _inner(canvas)
        alike = all(bool((x == x[:1]).all()) for x in (canvas.tokens, canvas.gap, canvas.minimum, canvas.word_start))
        beta, evidence = self._backward(canvas.select(torch.zeros(1, dtype=torch.long)) if alike else canvas, inner)
        beta = beta.expand(rows, -1, -1, -1)
        if bool((evidence == -torch.inf).any()):
            raise Impossible(
                f"the world {self._name} cannot have written this text: its probability is 0 whatever fills the gaps"
            )
        tokens, log_q = canvas.tokens.clone(), torch.zeros(rows, dtype=torch.float64)
        open_, ended = self._before(canvas, inner)[0], self._zeros(rows)
        starts, may_end = _ends(canvas)
        for j in inner:
            slot, over = canvas.slots[:, j], starts[:, j, None]
            open_, ended = torch.where(over, open_ + ended, open_), ended.masked_fill(over, 0)
            unused = torch.zeros_like(slot)
            if slot.any():
                ahead = beta[:, j + 1 - inner.start]
                probs = self._token_probs(open_, ended, ahead, may_end[:, j], canvas.word_start[:, j])[slot]
                # After a given token that is impossible, all tokens are alike.
                probs = probs.where(probs.sum(dim=1, keepdim=True) > 0, torch.ones_like(probs))
                log_probs = tempering(probs.log())
                values = choose(log_probs, slot, j)
                tokens[slot, j] = values
                log_q[slot] += log_probs.gather(1, values[:, None])[:, 0]
                unused = slot & (tokens[:, j] == self._null)
            moved = self._transitions.forward(open_, tokens[:, j])
            ended = torch.where(unused[:, None], open_ + ended, 0.0)
            open_ = moved.masked_fill(unused[:, None], 0)
            open_, ended = _normalised(open_, ended)
        return tokens, log_q

    def marginals(self, canvas: Canvas, where: Tensor) -> Tensor:
        """Log-probs of the token at each position where bool `where [batch, length]`: `[where.sum(), vocab]`.

        Where the fixed tokens are impossible, all tokens that the automaton emits are equally likely.
        """
        vocab, inner = self._arcs.vocab, _inner(canvas)
        beta, evidence = self._backward(canvas, inner)
        batch = len(canvas)
        states = torch.zeros(batch, len(inner), 2, self._arcs.states, dtype=torch.float64)
        open_, ended = self._before(canvas, inner)[0], self._zeros(batch)
        starts, may_end = _ends(canvas)
        for j in inner:
            slot, over = canvas.slots[:, j, None], starts[:, j, None]
            open_, ended = torch.where(over, open_ + ended, open_), ended.masked_fill(over, 0)
            states[:, j - inner.start, 0], states[:, j - inner.start, 1] = open_, ended
            moved = self._transitions.forward(open_, canvas.tokens[:, j])
            if slot.any():
                over = ended + open_ * may_end[:, j, None]
                moved = torch.where(slot, self._transitions.forward_unknown(open_, canvas.word_start[:, j]), moved)
                ended = torch.where(slot, over, 0.0)
            open_, ended = _normalised(moved, ended)
        asked = canvas.slots & where
        probs = F.one_hot(canvas.tokens, vocab).double()
        within = asked[:, inner.start : inner.stop]  # no slot lies outside of it
        before, ahead = states[within], beta[:, 1:][within]
        probs[asked] = self._token_probs(before[:, 0], before[:, 1], ahead, may_end[asked], canvas.word_start[asked])
        emitted = torch.zeros(vocab, dtype=torch.float64).index_fill(0, self._arcs.token.unique(), 1.0)
        impossible = asked & ((evidence == -torch.inf)[:, None] | (probs.sum(dim=-1) == 0))
        probs = torch.where(impossible[..., None], emitted, probs)
        return (probs / probs.sum(dim=-1, keepdim=True)).log()[where]

    def _token_probs(self, open_: Tensor, ended: Tensor, ahead: Tensor, may_end: Tensor, word_start: Tensor) -> Tensor:
        """Probabilities of the token of a slot, null among them: `[rows, vocab]`, zeros where no token is possible.

        Args:
            open_, ended: `[rows, states]`, states before the slot while its gap is open, and after it has ended.
            ahead: `[rows, 2, states]`, the messages of `_backward` after the slot.
            may_end: `[rows]`, 1.0 where the gap may end before the slot.
            word_start: bool `[rows]`, whether the token must start a word.
        """
        mass = self._transitions.token_mass(open_, ahead[:, 0]) * (~word_start[:, None] | self._arcs.starts_word)
        if self._null >= 0:
            mass[:, self._null] = ((ended + open_ * may_end[:, None]) * ahead[:, 1]).sum(dim=1)
        return mass / mass.sum(dim=1, keepdim=True).clamp(min=TINY)

    def _before(self, canvas: Canvas, inner: range) -> tuple[Tensor, Tensor]:
        """Distribution of the state before the inner columns, `[batch, states]`, and log-prob of the tokens so far."""
        alpha, log_prob = self._zeros(1), torch.zeros(1, dtype=torch.float64)
        alpha[:, 0] = 1
        for j in range(inner.start):
            alpha = self._transitions.forward(alpha, canvas.tokens[:1, j])
            total = alpha.sum(dim=1)
            alpha, log_prob = alpha / total.clamp(min=TINY)[:, None], log_prob + total.log()
        return alpha.expand(len(canvas), -1), log_prob

    def _backward(self, canvas: Canvas, inner: range) -> tuple[Tensor, Tensor]:
        """Backward messages, and the log-evidence `[batch]`.

        Returns:
            `[batch, len(inner) + 1, 2, states]`: up to a factor per position, the probability of everything from a
            column on, given the state before it, while its gap is open (0) and after it has ended (1).
        """
        tokens, (batch, length) = canvas.tokens, canvas.tokens.shape
        log_scale = torch.zeros(batch, dtype=torch.float64)
        last = torch.ones(1, self._arcs.states, dtype=torch.float64)
        for j in reversed(range(inner.stop, length)):
            last = self._transitions.backward(last, tokens[:1, j])
            scale = last.amax().clamp(min=TINY)
            last, log_scale = last / scale, log_scale + scale.log()
        beta = torch.empty(batch, len(inner) + 1, 2, self._arcs.states, dtype=torch.float64)
        beta[:, -1] = last
        starts, may_end = _ends(canvas)
        for j in reversed(inner):
            slot, ahead = canvas.slots[:, j, None], beta[:, j + 1 - inner.start]
            now = self._transitions.backward(ahead[:, 0], tokens[:, j])
            if slot.any():
                moved = self._transitions.backward_unknown(ahead[:, 0], canvas.word_start[:, j])
                now = torch.where(slot, moved + may_end[:, j, None] * ahead[:, 1], now)
            over = torch.where(starts[:, j, None], now, ahead[:, 1])
            scale = torch.maximum(now, over).amax(dim=1).clamp(min=TINY)
            log_scale = log_scale + scale.log()
            beta[:, j - inner.start, 0], beta[:, j - inner.start, 1] = now / scale[:, None], over / scale[:, None]
        before, log_prob = self._before(canvas, inner)
        return beta, (before * beta[:, 0, 0]).sum(dim=1).log() + log_scale + log_prob

    def _zeros(self, batch: int) -> Tensor:
        return torch.zeros(batch, self._arcs.states, dtype=torch.float64)


def _inner(canvas: Canvas) -> range:
    """The columns from the first to the last that has a slot or differs between rows."""
    shared = ~canvas.slots.any(dim=0) & (canvas.tokens == canvas.tokens[:1]).all(dim=0)
    differing = (~shared).nonzero()[:, 0].tolist()
    return range(differing[0], differing[-1] + 1) if differing else range(0)


def _ends(canvas: Canvas) -> tuple[Tensor, Tensor]:
    """Where a gap begins or there is none (bool), and where a gap may end (1.0, else 0.0): `[batch, length]`."""
    rank, _ = rank_and_size(canvas.gap)
    starts = ~canvas.slots | (rank == 0)
    if not canvas.minimum.shape[1]:
        return starts, torch.zeros_like(canvas.gap, dtype=torch.float64)
    least = canvas.minimum.gather(1, canvas.gap.clamp(min=0))
    return starts, (canvas.slots & (rank >= least)).double()


def _normalised(open_: Tensor, ended: Tensor) -> tuple[Tensor, Tensor]:
    """Both, divided by their sum over all states."""
    total = (open_ + ended).sum(dim=1, keepdim=True).clamp(min=TINY)
    return open_ / total, ended / total
