"""Deterministic finite automata over classes of characters: the smallest one of a regular expression."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from re import _constants  # type: ignore[attr-defined]
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textdiff.text.characters import BLANK, NEWLINE, classes_of, word_characters
from textdiff.text.partition import equivalent
from textdiff.text.regex_nfa import NFA, TooLarge, nfa

MOST_WORK = 400_000
"""Steps from node to node that are taken to make an automaton deterministic."""
MOST_SETS = 4096
MOST_STATES = 2**15
"""Before equivalent states are merged."""
MOST_ENTRIES = 2**21
"""Of the table of the next states."""

START = 8
END = 8
"""What stands before the first character, and after the last."""

Rows = list[dict[int, int]]
"""The next state of each state by the class of a character; what is missing leads nowhere."""


@dataclass(frozen=True, eq=False)
class CharDFA:
    """A complete deterministic automaton over classes of characters; state 0 is initial, state 1 rejects for good.

    Attributes:
        step: the next state, `[states, classes]`.
        accept: whether a state accepts, `[states]`.
        classes: the class of each code point, -1 for surrogates.
    """

    step: NDArray[np.int32]
    accept: NDArray[np.bool_]
    classes: NDArray[np.int32]


def char_dfa(pattern: str, blank: bool = False, may_be_empty: bool = False) -> CharDFA:
    """The smallest automaton of a regular expression; arguments as for `byte_dfa`.

    Raises:
        UserError: a malformed pattern, or one with a construct that no automaton follows.
        TooLarge: it exceeds a budget while it is built.
    """
    found = nfa(pattern)
    anchors = {condition[0] for edges in found.free for condition, _ in edges if condition is not None}
    watched = [NEWLINE] if anchors else []
    if anchors & {_constants.AT_BOUNDARY, _constants.AT_NON_BOUNDARY}:
        watched += [word_characters(re.UNICODE), word_characters(re.ASCII)]
    if len(found.sets) > MOST_SETS:
        raise TooLarge
    classes, inside = classes_of([*found.sets, *watched, *[BLANK] * blank])
    members = [row.nonzero()[0].tolist() for row in inside]
    width = inside.shape[1]
    flags = inside[len(found.sets) : len(found.sets) + len(watched)]
    signs = (flags.astype(int) * (1 << np.arange(len(watched)))[:, None]).sum(axis=0).tolist()
    rows, accept = _Subsets(found, members, signs, START * bool(anchors)).explore()
    if blank:
        rows = [{members[-1][0]: 1}, *({symbol: after + 1 for symbol, after in row.items()} for row in rows)]
        accept = [may_be_empty and accept[0], *accept]
    return CharDFA(*_minimal(rows, accept, width), classes)


class _Subsets:
    """The subset construction, with the conditions that anchors put on the characters before and after.

    A state is a set of nodes, and what is to be known about the character before: whether it is a newline (1), of a
    Unicode word (2), of an ASCII word (4), or nothing (`START`). Nodes that were reached through a `$` before a newline
    at the end of the text are marked by -1 - node: after the newline nothing may follow.
    """

    def __init__(self, found: NFA, members: Sequence[list[int]], signs: Sequence[int], start: int) -> None:
        self.nfa, self.members, self.signs, self.start = found, members, signs, start
        self.work = 0
        self.by_signs: dict[int, list[int]] = defaultdict(list)
        for symbol, of_symbol in enumerate(signs):
            self.by_signs[of_symbol].append(symbol)

    def explore(self) -> tuple[Rows, list[bool]]:
        """The rows of the table, and whether each state accepts."""
        first = (frozenset([self.nfa.start]), self.start)
        number, queue = {first: 0}, [first]
        rows: Rows = []
        accept = []
        for nodes, before in queue:
            accept.append(any(node in (0, -1) for node, _ in self.closure(nodes, before, END)))
            row: dict[int, int] = {}
            for signs in self.by_signs:
                for symbol, reached in self.reached(nodes, before, signs).items():
                    state = (self.pruned(reached), signs)
                    if state not in number:
                        number[state] = len(queue)
                        queue.append(state)
                    row[symbol] = number[state]
            rows.append(row)
            if len(queue) > MOST_STATES or len(queue) * len(self.signs) > MOST_ENTRIES:
                raise TooLarge
        return rows, accept

    def reached(self, nodes: frozenset[int], before: int, signs: int) -> dict[int, set[int]]:
        """The nodes that are reached by a character of each class that has these signs."""
        after: dict[int, set[int]] = defaultdict(set)
        for node, last in self.closure(nodes, before, signs):
            for symbols, target in self.nfa.reads[node] if node >= 0 else ():
                self.work += len(self.members[symbols])
                for symbol in self.members[symbols]:
                    if self.signs[symbol] == signs:
                        after[symbol].add(-1 - target if last else target)
        if self.work > MOST_WORK:
            raise TooLarge
        return after

    def pruned(self, nodes: set[int]) -> frozenset[int]:
        """Nodes without those from which no text is accepted that is not accepted from another one, by their ranks."""
        if len(nodes) == 1:
            return frozenset(nodes)
        best: dict[tuple[int, bool], int] = {}
        ranked = [(node, self.nfa.ranks.get(node if node >= 0 else -1 - node, ())) for node in nodes]
        for node, ranks in ranked:
            for place, rank in ranks:
                best[place, node < 0] = max(rank, best.get((place, node < 0), rank))
        return frozenset(node for node, ranks in ranked if all(best[place, node < 0] == rank for place, rank in ranks))

    def closure(self, nodes: Iterable[int], before: int, after: int) -> set[tuple[int, bool]]:
        """The nodes that are reached without a character, each with whether the text ends after this character."""
        found = {(node, False) for node in nodes}
        stack = list(found)
        while stack:
            node, last = stack.pop()
            edges = self.nfa.free[node if node >= 0 else -1 - node]
            self.work += 1 + len(edges)
            for condition, target in edges:
                ends = last
                if condition is not None:
                    holds = _holds(condition, before, after, last)
                    if holds is None:
                        continue
                    ends = holds
                reached = (target if node >= 0 else -1 - target, ends)
                if reached not in found:
                    found.add(reached)
                    stack.append(reached)
            if self.work > MOST_WORK:
                raise TooLarge
        return found


def _holds(condition: tuple[Any, bool], before: int, after: int, last: bool) -> bool | None:
    """Whether an anchor holds, None if not; True if it holds provided that the text ends after the next character.

    Args:
        condition: an anchor of Python's parser, and whether words are ASCII.
        before, after: what stands there, see `_Subsets`.
        last: whether the text has to end after the next character anyway.
    """
    anchor, ascii_words = condition
    newline, word, edge = 1, 4 if ascii_words else 2, 8
    if anchor in (_constants.AT_BEGINNING, _constants.AT_BEGINNING_STRING):
        holds = before == edge
    elif anchor is _constants.AT_BEGINNING_LINE:
        holds = before == edge or bool(before & newline)
    elif anchor is _constants.AT_END_STRING:
        holds = after == edge
    elif anchor is _constants.AT_END_LINE:
        holds = after == edge or bool(after & newline)
    elif anchor is _constants.AT_END:
        return True if after & newline else (last if after == edge else None)
    else:
        boundary = bool(before & word) != bool(after & word)
        holds = not (before == after == edge) and boundary == (anchor is _constants.AT_BOUNDARY)
    return last if holds else None


def _minimal(rows: Rows, accept: list[bool], width: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The smallest automaton: equivalent states are merged; state 0 is initial, and state 1 rejects for good."""
    dead = len(rows)
    step = np.full((dead + 1, width), dead, dtype=np.int32)
    for state, row in enumerate(rows):
        step[state, list(row.keys())] = list(row.values())
    accepted = np.array([*accept, False])
    block = equivalent(step, accepted)
    if block[dead] == block[0]:
        return np.ones((2, width), dtype=np.int32), np.zeros(2, dtype=bool)
    leads = np.unique(block, return_index=True)[1]
    others = np.sort(leads[(leads != 0) & (np.arange(len(leads)) != block[dead])])
    kept = np.array([0, dead, *others])
    rank = np.empty(len(kept), dtype=np.int32)
    rank[block[kept]] = np.arange(len(kept))
    return rank[block[step[kept]]], accepted[kept]
