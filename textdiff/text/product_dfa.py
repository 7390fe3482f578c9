"""Products of automata over token ids, each of which takes the tokens of some positions of a canvas."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textdiff.errors import UserError
from textdiff.text.partition import mixed_bits
from textdiff.text.token_dfa import TokenDFA

MOST_STATES = 2**16
MOST_ENTRIES = 2**23
"""Of the table of next states."""
MOST_WORK = 2**26
"""Steps of single automata."""


@dataclass(frozen=True, eq=False)
class Arcs:
    """The table of a product in sparse form: most of its states are within a character, where few tokens may follow.

    Attributes:
        groups: `[classes, groups]` float64, 1 where a class of tokens belongs to a group.
        steps: for each kind, `[3, arcs]` long: a state, the next one, and the group of the tokens that lead there.
    """

    groups: Tensor
    steps: list[Tensor]

    @classmethod
    def of(cls, table: NDArray[np.int64]) -> Arcs:
        """The arcs of a table `[kinds, states, classes]`, without those to state 1, from which nothing is accepted."""
        kinds, states, width = table.shape
        marks: NDArray[np.uint64] = np.random.default_rng(0).integers(2**62, size=(width,), dtype=np.uint64)
        steps, sums = [], []
        for step in table:
            source, symbol = (step != 1).nonzero()
            pairs, of_pair = np.unique(source * states + step[source, symbol], return_inverse=True)
            total = np.zeros(len(pairs), dtype=np.uint64)
            np.add.at(total, of_pair, marks[symbol])
            steps.append((pairs // states, pairs % states))
            sums.append(total)
        _, first, group = np.unique(np.concatenate([*sums]), return_index=True, return_inverse=True)
        every = [np.concatenate([pair[i] for pair in steps]) for i in range(2)]
        kind = np.repeat(np.arange(kinds), [len(total) for total in sums])
        members = table[kind[first], every[0][first]] == every[1][first][:, None]
        arcs = torch.from_numpy(np.stack((*every, group))).split([len(total) for total in sums], dim=1)
        return cls(torch.from_numpy(members.T.astype(np.float64)), list(arcs))

    def to(self, device: torch.device | str) -> Arcs:
        """The same arcs on `device`."""
        return Arcs(self.groups.to(device), [step.to(device) for step in self.steps])


@dataclass(frozen=True, eq=False)
class ProductDFA:
    """The intersection of several automata, each of which takes the tokens of some positions of a canvas.

    Neighbouring positions that the same automata take are of one kind.

    Attributes:
        step: `[kinds, states, classes]` long: the state after a token at a position of each kind.
        classes: `[vocab]` long, the class of each token.
        kind: `[length]` long, the kind of each position; -1 where no automaton takes the token.
        accept: `[states]` bool, the accepting states.
        description: what the constraints ask for, in messages.
    """

    step: Tensor
    classes: Tensor
    kind: Tensor
    accept: Tensor
    description: str

    @classmethod
    def of(cls, parts: Sequence[tuple[TokenDFA, Tensor]], description: str) -> ProductDFA:
        """The product of automata, each with the positions whose tokens it takes, bool `[length]`.

        Raises:
            UserError: it takes too many states, which is noticed while it is built.
        """
        distinct = {(id(dfa), tuple(where.nonzero()[:, 0].tolist())): (dfa, where) for dfa, where in parts}
        parts = list(distinct.values())
        takes = torch.stack([where for _, where in parts]).numpy()
        kind, kinds = _kinds(takes)
        joint = parts[0][0].classes
        for dfa, _ in parts[1:]:
            joint = (joint * dfa.step.shape[1] + dfa.classes).unique(return_inverse=True)[1]
        example = torch.full((int(joint.max()) + 1,), -1).scatter_(0, joint, torch.arange(len(joint)))
        search = _Search([dfa for dfa, _ in parts], example, description)
        last = [int(where.nonzero()[0].max()) if where.any() else len(kind) for where in takes]
        for number, moves in enumerate(kinds):
            positions = (kind == number).nonzero()[0]
            over = [end < positions[0] for end in last]
            search.explore(moves.nonzero()[0].tolist(), over, len(positions))
        return cls(search.table(), joint, torch.from_numpy(kind), search.accept(), description)

    @cached_property
    def arcs(self) -> Arcs:
        """The steps after which something may still be accepted, see `Arcs`."""
        return Arcs.of(self.step.cpu().numpy()).to(self.step.device)

    def to(self, device: torch.device | str) -> ProductDFA:
        """The same automaton on `device`."""
        step, classes, kind, accept = (x.to(device) for x in (self.step, self.classes, self.kind, self.accept))
        return ProductDFA(step, classes, kind, accept, self.description)

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.accept)

    def accepts(self, tokens: Tensor) -> Tensor:
        """Whether complete texts `[n, length]` are allowed, bool `[n]`."""
        state = tokens.new_zeros(len(tokens))
        for j in (self.kind >= 0).nonzero()[:, 0].tolist():
            state = self.step[self.kind[j], state, self.classes[tokens[:, j]]]
        return self.accept[state]


def _kinds(takes: NDArray[np.bool_]) -> tuple[NDArray[np.int64], list[NDArray[np.bool_]]]:
    """The kind of each position, and the automata that take the tokens of each kind; kinds follow each other."""
    kind = np.full(takes.shape[1], -1)
    kinds: list[NDArray[np.bool_]] = []
    for position in np.flatnonzero(takes.any(axis=0)).tolist():
        if not kinds or not np.array_equal(kinds[-1], takes[:, position]):
            kinds.append(takes[:, position])
        kind[position] = len(kinds) - 1
    return kind, kinds


class _Search:
    """The states of a product that can be reached, kind of position by kind of position.

    Where one automaton cannot accept any more the product is in state 1. An automaton whose last position has passed is
    set to one accepting state, so that automata of different gaps do not multiply.
    """

    def __init__(self, dfas: Sequence[TokenDFA], example: Tensor, description: str) -> None:
        self.steps = [dfa.step[:, dfa.classes[example]].numpy() for dfa in dfas]
        self.accepting = [dfa.accept.numpy() for dfa in dfas]
        self.hopeless = [dfa.hopeless.numpy() for dfa in dfas]
        self.width, self.description, self.work = len(example), description, 0
        self.states: NDArray[np.int64] = np.array([[0] * len(dfas), [-1] * len(dfas)])
        self.number = {0: 1}
        self.rows: list[dict[int, NDArray[np.int64]]] = []
        self.ends = [0]
        """The states that are reached at the end of what has been explored, or before."""

    def explore(self, moves: list[int], over: list[bool], positions: int) -> None:
        """Go through positions at which some automata move, while those that are `over` have taken their last token."""
        frontier = self.ends
        rows: dict[int, NDArray[np.int64]] = {}
        for _ in range(positions):
            if not frontier:
                break
            after = self._after(self.states[frontier], moves, over)
            rows.update(zip(frontier, after, strict=True))
            frontier = [state for state in np.unique(after).tolist() if state not in rows and state != 1]
        self.ends = sorted({*rows, *frontier})
        self.rows.append(rows)

    def _after(self, states: NDArray[np.int64], moves: list[int], over: list[bool]) -> NDArray[np.int64]:
        """The states after a token of each class, `[states, classes]`; new ones are numbered."""
        found = []
        for some in np.array_split(states, len(states) * self.width * len(self.steps) // 2**20 + 1):
            self.work += len(some) * self.width * len(self.steps)
            self._check()
            lost = np.zeros(len(some), dtype=bool)
            for part, ended in enumerate(over):
                if ended:
                    lost |= ~self.accepting[part][some[:, part]]
                    some[:, part] = self.accepting[part].argmax()
            dead = np.repeat(lost[:, None], self.width, axis=1)
            hashes = np.zeros(dead.shape, dtype=np.uint64)
            after = {part: self.steps[part][some[:, part]] for part in moves}
            for part in range(some.shape[1]):
                state = after.get(part, some[:, part, None])
                hashes += mixed_bits(state + (np.int64(part) << 32))
                dead |= self.hopeless[part][state]
            hashes[dead] = 0
            keys, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
            known = keys.tolist()
            new = [index for index, key in enumerate(known) if key not in self.number]
            row, symbol = np.divmod(first[new], self.width)
            moved = some[row]
            for part in moves:
                moved[:, part] = after[part][row, symbol]
            self.number.update(zip((known[index] for index in new), itertools.count(len(self.states))))
            self.states = np.concatenate((self.states, moved))
            self._check()
            found.append(np.array([self.number[key] for key in known])[inverse].reshape(hashes.shape))
        return np.concatenate(found)

    def _check(self) -> None:
        """Raise if a budget is exceeded."""
        entries = len(self.states) * self.width * (len(self.rows) + 1)
        if len(self.states) > MOST_STATES or entries > MOST_ENTRIES or self.work > MOST_WORK:
            raise UserError(
                f"the constraints take too large an automaton together: {self.description}; ask for fewer words or "
                "smaller bounds"
            )

    def table(self) -> Tensor:
        """`[kinds, states, classes]`."""
        table = np.ones((len(self.rows), len(self.states), self.width), dtype=np.int64)
        for step, rows in zip(table, self.rows, strict=True):
            step[list(rows)] = np.stack(list(rows.values()))
        return torch.from_numpy(table)

    def accept(self) -> Tensor:
        """`[states]`."""
        states = self.states
        accept = [accepting[states[:, part]] for part, accepting in enumerate(self.accepting)]
        return torch.from_numpy(np.logical_and.reduce(accept) & (np.arange(len(states)) != 1))
