"""Draws under a constraint: forward-backward over an automaton and the denoiser's distributions of the masked slots.

In one step the denoiser gives a distribution for each masked slot, and their product is a distribution over texts.
Given that a constraint automaton accepts the text, it becomes a hidden Markov chain whose states are the automaton's: a
backward pass gives the mass Z of the accepted texts, a forward pass draws from them exactly. If only the tokens of the
slots U are then kept and the others are drawn anew in later steps, what was kept has probability
p(x_U) Z(after) / Z(before).
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from textdiff.samplers.categorical import categorical
from textdiff.samplers.lengths import end_probs, rank_and_size
from textdiff.text import Canvas, ProductDFA, Vocabulary


@final
class Constrained:
    """The product of the slots' distributions, restricted to what an automaton accepts.

    Args:
        dfa: the constraint automaton.
        tokens: ids `[rows, length]`, anything in open slots; the rows differ in their slots only.
        where: bool `[rows, length]`, the open slots.
        log_probs: of the open slots, `[where.sum(), vocab]`, row-major.
    """

    def __init__(self, dfa: ProductDFA, tokens: Tensor, where: Tensor, log_probs: Tensor) -> None:
        self.dfa, self.tokens, self.where = dfa, tokens, where
        self.probs = log_probs.double().exp()
        inside = where.any(dim=0).nonzero()[:, 0].tolist()
        self.span = range(inside[0], inside[-1] + 1) if inside else range(0)
        self.kinds = dfa.kind.tolist()
        self._known = [[j for j in part if self.kinds[j] >= 0] for part in self._around(tokens.shape[1])]
        numbers = torch.arange(len(log_probs), device=tokens.device)
        self._number = torch.full_like(tokens, -1).masked_scatter(where, numbers)

    def _around(self, length: int) -> tuple[range, range]:
        """The columns before and after the span of the open slots."""
        return (range(self.span.start), range(self.span.stop, length)) if self.span else (range(0), range(length))

    def log_mass(self) -> Tensor:
        """Log-probability that the automaton accepts, float64 `[rows]`; -inf where it cannot."""
        return self._backward()[1]

    def draw(self, noise: Tensor) -> Tensor:
        """Tokens of the open slots, `[where.sum()]`: an exact draw given that the automaton accepts.

        Args:
            noise: uniforms, `[rows, length]`.
        """
        ahead = self._backward()[0]
        state, drawn = self._begin(), self.tokens.clone()
        for i, j in enumerate(self.span):
            kind, rows = self.kinds[j], self.where[:, j].nonzero()[:, 0]
            if len(rows):
                weights = self.probs[self._number[rows, j]]
                if kind >= 0:
                    after = self.dfa.step[kind][state[rows]]
                    allowed = weights * ahead[i + 1][rows].gather(1, after)[:, self.dfa.classes]
                    lost = allowed.sum(dim=1, keepdim=True) == 0  # nothing can be accepted any more: draw freely
                    weights = torch.where(lost, weights, allowed)
                drawn[rows, j] = categorical(weights.log(), noise[rows, j])
            if kind >= 0:
                state = self.dfa.step[kind][state, self.dfa.classes[drawn[:, j]]]
        return drawn[self.where]

    def lengths(
        self, gap: Tensor, log_probs: Tensor, null: int, noise: Tensor, given: Tensor | None, follows: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Number of tokens in each gap: an exact draw given that the automaton accepts.

        Args:
            gap: number of the gap of each slot, `[rows, length]`, -1 outside.
            log_probs: of the lengths without the automaton, `[rows, gaps, longest gap + 1]`.
            null: id of the null token.
            noise: uniforms, `[rows, length]`.
            given: lengths `[rows, gaps]` that the rows which `follows`, bool `[rows]`, take instead of drawing.

        Returns:
            Lengths `[rows, gaps]`, and their log-probability `[rows]`.
        """
        text, last = self._parts(gap, ends := end_probs(log_probs, gap), null)
        rank, _ = rank_and_size(gap)
        ahead = self._open_backward(text, ends, last)
        alpha = F.one_hot(self._begin(), self.dfa.states).double()
        lengths = gap.new_zeros(log_probs.shape[:2])
        log_q = self.probs.new_zeros(len(gap))
        ended = torch.zeros_like(follows if follows is not None else last[:, 0])
        for i, j in enumerate(self.span):
            slot, (inside, over) = self.where[:, j], ahead[i + 1]
            on = self._forward(alpha, text[:, i], self.kinds[j])
            go = (on * inside).sum(dim=1) * ~ended
            halt = (alpha * torch.where(last[:, j, None], inside, over)).sum(dim=1) * ends[:, j].where(~ended, 1.0)
            total = go + halt
            continues = (noise[:, j] * total < go) | (total == 0)
            if given is not None:
                assert follows is not None
                wanted = rank[:, j] < given.gather(1, gap[:, j, None].clamp(min=0))[:, 0]
                continues = torch.where(follows, wanted, continues)
            prob = torch.where(continues, go, halt) / total
            log_q = log_q + torch.where(slot & ~ended, prob.nan_to_num(nan=0.0).log(), 0.0)
            continues = continues | ~slot
            lengths = lengths.scatter_add(1, gap[:, j, None].clamp(min=0), (continues & slot)[:, None].long())
            alpha = torch.where(continues[:, None], on, alpha)
            alpha = alpha / alpha.sum(dim=1, keepdim=True).clamp(min=1e-300)
            ended = (ended | ~continues) & ~last[:, j]
        return lengths, log_q

    def any_length(self, gap: Tensor, minimum: Tensor, null: int | None) -> bool:
        """Whether the automaton accepts some text of every row, with gaps of `minimum [rows, gaps]` tokens or more."""
        if null is None:
            return bool((self.log_mass() > -torch.inf).all())
        rank, _ = rank_and_size(gap)
        ends = 0.5 * ((gap >= 0) & (rank >= minimum.gather(1, gap.clamp(min=0))))
        text, last = self._parts(gap, ends.double(), null)
        first = self._open_backward(text, ends.double(), last)[0][0]
        return bool((first.gather(1, self._begin()[:, None]) > 0).all())

    def _parts(self, gap: Tensor, ends: Tensor, null: int) -> tuple[Tensor, Tensor]:
        """Mass of each class of tokens at each position if the gap continues, and which slots end their gap."""
        rank, size = rank_and_size(gap)
        probs = self.probs.index_fill(1, torch.tensor(null, device=gap.device), 0.0)
        total = probs.sum(dim=1, keepdim=True)
        probs = probs / total.where(total > 0, 1.0) * (1 - ends[self.where])[:, None]
        return self._by_class(probs), self.where & (rank + 1 == size)

    def _backward(self) -> tuple[list[Tensor], Tensor]:
        """Mass of accepted continuations from each position of the span on in each state, up to a factor for each row
        and position, a `[rows, states]` for each; and the log of the mass of accepted texts."""
        by_class = self._by_class(self.probs)
        ahead, scale = [self._end()], self.probs.new_zeros(len(self.tokens))
        for i, j in reversed(list(enumerate(self.span))):
            after = ahead[-1]
            if (kind := self.kinds[j]) >= 0:
                after, scale = _scaled(self._back(after, by_class[:, i], kind), scale)
            ahead.append(after)
        first = ahead[-1].gather(1, self._begin()[:, None])[:, 0]
        return ahead[::-1], scale + first.log()

    def _open_backward(self, text: Tensor, ends: Tensor, last: Tensor) -> list[tuple[Tensor, Tensor]]:
        """As `_backward`, for gaps that continue at a position, and for gaps that are over."""
        ahead = [(self._end(), self._end())]
        for i, j in reversed(list(enumerate(self.span))):
            inside, over = ahead[-1]
            over = torch.where(last[:, j, None], inside, over)
            slot, off = self.where[:, j, None], ends[:, j, None] * over
            on = self._back(inside, text[:, i], self.kinds[j])
            both, _ = _scaled(torch.stack((on + off * slot, torch.where(slot, over, on)), dim=1), ends[:, 0])
            ahead.append((both[:, 0], both[:, 1]))
        return ahead[::-1]

    def _back(self, ahead: Tensor, by_class: Tensor, kind: int) -> Tensor:
        """One step of the backward recursion, `[rows, states]`."""
        if kind < 0:
            return ahead * by_class.sum(dim=1, keepdim=True)
        source, target, group = self.dfa.arcs.steps[kind]
        mass = ahead[:, target] * (by_class @ self.dfa.arcs.groups)[:, group]
        return torch.zeros_like(ahead).index_add(1, source, mass)

    def _forward(self, alpha: Tensor, by_class: Tensor, kind: int) -> Tensor:
        """One step of the forward recursion, `[rows, states]`."""
        if kind < 0:
            return alpha * by_class.sum(dim=1, keepdim=True)
        source, target, group = self.dfa.arcs.steps[kind]
        mass = alpha[:, source] * (by_class @ self.dfa.arcs.groups)[:, group]
        return torch.zeros_like(alpha).index_add(1, target, mass)

    def _by_class(self, probs: Tensor) -> Tensor:
        """Mass of each class of tokens at each position of the span, `[rows, span, classes]`."""
        classes, width = self.dfa.classes, self.dfa.step.shape[2]
        known = F.one_hot(classes[self.tokens[:, self.span.start : self.span.stop]], width).double()
        where = self.where[:, self.span.start : self.span.stop, None]
        return known.masked_scatter(where, probs.new_zeros(len(probs), width).index_add(1, classes, probs))

    def _begin(self) -> Tensor:
        """State before the span, `[rows]`."""
        state = torch.zeros_like(self.tokens[:, 0])
        for j in self._known[0]:
            state = self.dfa.step[self.kinds[j]][state, self.dfa.classes[self.tokens[:, j]]]
        return state

    def _end(self) -> Tensor:
        """Whether what follows the span is accepted, from each state: `[rows, states]`, 0 or 1."""
        ahead = self.dfa.accept.double().expand(len(self.tokens), -1)
        for j in reversed(self._known[1]):
            ahead = ahead.gather(1, self.dfa.step[self.kinds[j]][:, self.dfa.classes[self.tokens[:, j]]].T)
        return ahead


def satisfiable(canvas: Canvas, vocabulary: Vocabulary) -> bool:
    """Whether some fill of a one-row canvas satisfies its constraint automaton; no network is asked."""
    assert canvas.dfa is not None
    word_start = canvas.word_start[canvas.slots][:, None] & ~vocabulary.starts_word
    allowed = ~(vocabulary.forbidden | word_start)
    if vocabulary.null is not None:
        allowed[:, vocabulary.null] = True
    constrained = Constrained(canvas.dfa, canvas.tokens, canvas.slots, allowed.double().log())
    return constrained.any_length(canvas.gap, canvas.minimum, vocabulary.null)


def _scaled(ahead: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Messages divided by the largest of their row, whose log is added to the scale; rows of zeros stay."""
    largest = ahead.flatten(1).amax(dim=1)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return ahead / largest.view(-1, *[1] * (ahead.dim() - 1)), scale + largest.log()
