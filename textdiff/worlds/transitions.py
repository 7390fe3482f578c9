"""The transitions of an automaton, applied to batches of state distributions: dense matrices, or sparse along arcs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_CELLS = 2**19
"""Largest vocabulary x states x states for which transitions are dense matrices."""


@dataclass(frozen=True, eq=False)
class Arcs:
    """The arcs of an automaton, and what tokens that no arc emits do to a state.

    Attributes:
        source, token, target: `[arcs]` long, sorted by source.
        weight: `[arcs]` float64.
        stop: `[states]` float64, the factor of an eos in each state.
        silent: `[vocab]` bool, tokens that leave the state as it is.
        starts_word: `[vocab]` bool.
        eos: id of the eos, -1 if there is none.
    """

    source: Tensor
    token: Tensor
    target: Tensor
    weight: Tensor
    stop: Tensor
    silent: Tensor
    starts_word: Tensor
    eos: int

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.stop)

    @property
    def vocab(self) -> int:
        """Number of token ids."""
        return len(self.silent)

    def transitions(self) -> Transitions:
        """Dense transitions for a small automaton, sparse ones for a large one."""
        dense = self.vocab * self.states**2 <= MOST_CELLS
        return DenseTransitions(self) if dense else SparseTransitions(self)

    def matrix(self, weight: Tensor) -> Tensor:
        """Transitions over any token, `[states, states]` from source to target, sparse; arcs have the given weights."""
        indices, shape = torch.stack((self.source, self.target)), (self.states, self.states)
        return torch.sparse_coo_tensor(indices, weight, shape, check_invariants=True).coalesce()


class Transitions(ABC):
    """One step of the forward and of the backward recursion.

    `alpha [rows, states]` are distributions of states, `beta [rows, states]` backward messages, both up to a factor.
    """

    @property
    @abstractmethod
    def cells(self) -> int:
        """Size of the intermediate result of `token_mass`, in numbers for each row."""

    @abstractmethod
    def forward(self, alpha: Tensor, token: Tensor) -> Tensor:
        """States after a known `token [rows]`, not normalised."""

    @abstractmethod
    def backward(self, beta: Tensor, token: Tensor) -> Tensor:
        """Messages before a known `token [rows]`."""

    @abstractmethod
    def forward_unknown(self, alpha: Tensor, word_start: Tensor) -> Tensor:
        """States after an unknown token, which starts a word where `word_start [rows]`."""

    @abstractmethod
    def backward_unknown(self, beta: Tensor, word_start: Tensor) -> Tensor:
        """Messages before an unknown token, which starts a word where `word_start [rows]`."""

    @abstractmethod
    def token_mass(self, alpha: Tensor, beta: Tensor) -> Tensor:
        """Unnormalised probability of each token between states before it and messages after it, `[rows, vocab]`."""


@final
class DenseTransitions(Transitions):
    """One matrix `[states, states]` for each token."""

    def __init__(self, arcs: Arcs) -> None:
        shape = (arcs.vocab, arcs.states, arcs.states)
        emitted = torch.zeros(shape, dtype=torch.float64)
        emitted.index_put_((arcs.token, arcs.source, arcs.target), arcs.weight, accumulate=True)
        self._known = emitted.clone()
        self._known[arcs.silent] = torch.eye(arcs.states, dtype=torch.float64)
        if arcs.eos >= 0:
            self._known[arcs.eos] = torch.diag(arcs.stop)
        self._emitted = emitted.transpose(0, 1).reshape(arcs.states, -1)
        self._any, self._words = emitted.sum(dim=0), emitted[arcs.starts_word].sum(dim=0)
        self._shape = shape

    @property
    def cells(self) -> int:
        return self._emitted.shape[1]

    def forward(self, alpha: Tensor, token: Tensor) -> Tensor:
        return (alpha[:, None] @ self._known[token])[:, 0]

    def backward(self, beta: Tensor, token: Tensor) -> Tensor:
        return (self._known[token] @ beta[..., None])[..., 0]

    def forward_unknown(self, alpha: Tensor, word_start: Tensor) -> Tensor:
        return torch.where(word_start[:, None], alpha @ self._words, alpha @ self._any)

    def backward_unknown(self, beta: Tensor, word_start: Tensor) -> Tensor:
        return torch.where(word_start[:, None], beta @ self._words.T, beta @ self._any.T)

    def token_mass(self, alpha: Tensor, beta: Tensor) -> Tensor:
        after = (alpha @ self._emitted).view(len(alpha), self._shape[0], self._shape[1])
        return (after @ beta[..., None])[..., 0]


@final
class SparseTransitions(Transitions):
    """Forward steps along the arcs out of states with mass; backward steps by sparse matrices."""

    def __init__(self, arcs: Arcs) -> None:
        self.arcs = arcs
        self._first = F.pad(torch.bincount(arcs.source, minlength=arcs.states).cumsum(0), (1, 0))

    @property
    def cells(self) -> int:
        return len(self.arcs.source)

    def forward(self, alpha: Tensor, token: Tensor) -> Tensor:
        arcs = self.arcs
        row, arc = self._outgoing(alpha)
        emits = arcs.token[arc] == token[row]
        row, arc = row[emits], arc[emits]
        mass = alpha[row, arcs.source[arc]] * arcs.weight[arc]
        after = torch.zeros_like(alpha).index_put_((row, arcs.target[arc]), mass, accumulate=True)
        after = torch.where((token == arcs.eos)[:, None], alpha * arcs.stop, after)
        return torch.where(arcs.silent[token][:, None], alpha, after)

    def backward(self, beta: Tensor, token: Tensor) -> Tensor:
        arcs, out = self.arcs, torch.zeros_like(beta)
        for value in token.unique().tolist():
            rows = (token == value).nonzero()[:, 0]
            if arcs.silent[value]:
                out[rows] = beta[rows]
            elif value == arcs.eos:
                out[rows] = beta[rows] * arcs.stop
            elif (some := self._emitting.get(value)) is not None:
                mass = beta[rows][:, arcs.target[some]] * arcs.weight[some]
                out[rows] = out[rows].index_add(1, arcs.source[some], mass)
        return out

    def forward_unknown(self, alpha: Tensor, word_start: Tensor) -> Tensor:
        return self._apply(alpha, word_start, [matrix.t() for matrix in self._matrices])

    def backward_unknown(self, beta: Tensor, word_start: Tensor) -> Tensor:
        return self._apply(beta, word_start, self._matrices)

    @staticmethod
    def _apply(x: Tensor, word_start: Tensor, matrices: list[Tensor]) -> Tensor:
        out = (matrices[0] @ x.T).T
        return torch.where(word_start[:, None], (matrices[1] @ x.T).T, out) if word_start.any() else out

    def token_mass(self, alpha: Tensor, beta: Tensor) -> Tensor:
        arcs = self.arcs
        row, arc = self._outgoing(alpha)
        mass = alpha[row, arcs.source[arc]] * arcs.weight[arc] * beta[row, arcs.target[arc]]
        tokens = torch.zeros(len(alpha), arcs.vocab, dtype=torch.float64)
        return tokens.index_put_((row, arcs.token[arc]), mass, accumulate=True)

    def _outgoing(self, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and arcs of all arcs out of states that have mass in `alpha`."""
        row, state = alpha.nonzero(as_tuple=True)
        degree = self._first[state + 1] - self._first[state]
        row = row.repeat_interleave(degree)
        start = (self._first[state] - (degree.cumsum(0) - degree)).repeat_interleave(degree)
        return row, start + torch.arange(len(row))

    @cached_property
    def _emitting(self) -> dict[int, Tensor]:
        """The arcs that emit each token."""
        order = self.arcs.token.argsort(stable=True)
        tokens, counts = self.arcs.token[order].unique_consecutive(return_counts=True)
        return dict(zip(tokens.tolist(), order.split(counts.tolist()), strict=True))

    @cached_property
    def _matrices(self) -> list[Tensor]:
        """Transitions over any token, and over tokens that start a word."""
        begins = self.arcs.weight * self.arcs.starts_word[self.arcs.token]
        return [self.arcs.matrix(self.arcs.weight), self.arcs.matrix(begins)]
