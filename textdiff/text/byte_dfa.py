"""Regular expressions as deterministic finite automata over the bytes of UTF-8."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from textdiff.errors import UserError
from textdiff.text.char_dfa import CharDFA, char_dfa
from textdiff.text.partition import Table, mixed_bits
from textdiff.text.regex_nfa import TooLarge

MOST_STATES = 2**14
"""Of an automaton over bytes or tokens."""


def byte_dfa(pattern: str, blank: bool = False, may_be_empty: bool = False) -> tuple[Table, NDArray[np.bool_]]:
    """The complete automaton of a regular expression: the next state `[states, 256]`, and whether a state accepts.

    It accepts the UTF-8 of the texts that `re.fullmatch` matches. State 0 is the initial state, and state 1
    accepts nothing any more. A state pairs a state of the automaton over characters with the beginning of a character,
    if that matters.

    Args:
        pattern: in the syntax of Python, see `nfa` for what is refused.
        blank: the texts begin with a blank that is not part of the match.
        may_be_empty: and the empty text is accepted without a blank if it matches.

    Raises:
        UserError: a malformed pattern, one with a construct that no automaton follows, or one that takes too many
            states; that is noticed while it is built.
    """
    if any("\ud800" <= character <= "\udfff" for character in pattern):
        raise UserError(f"the pattern {pattern!r} has a lone surrogate, which no text can have: leave it out")
    try:
        return _bytes_of(char_dfa(pattern, blank, may_be_empty))
    except TooLarge as error:
        raise UserError(
            f"the pattern {pattern!r} takes too large an automaton (at most {MOST_STATES} states are taken): ask for "
            "fewer or shorter repetitions"
        ) from error


def _bytes_of(dfa: CharDFA) -> tuple[Table, NDArray[np.bool_]]:
    """The automaton over bytes of one over characters.

    Raises:
        TooLarge: it takes more than `MOST_STATES` states.
    """
    states, dead = len(dfa.step), 1
    step = np.concatenate((dfa.step, np.full((states, 1), dead, np.int32)), axis=1)  # class -1: no character
    points = dfa.classes.reshape(-1, 64)
    ends, end = _distinct(points)  # the last byte of a character
    middles, middle = _distinct(end.reshape(-1, 64))
    table = np.full((states, 256), dead, dtype=np.int32)
    table[:, :128] = step[:, dfa.classes[:128]]
    rows = [table]
    of_end = _states_of(step, ends, rows)
    invalid = np.full_like(of_end[:, :1], dead)
    table[:, 0xC2:0xE0] = of_end[:, end[2:32]]
    overlong = np.where(np.arange(64) < 32, -1, end.reshape(-1, 64)[0])  # E0 80 to E0 9F
    middles = np.concatenate((middles, overlong[None]))
    middle[0] = len(middles) - 1
    of_end = np.concatenate((of_end, invalid), axis=1)
    of_middle = _states_of(of_end, middles, rows)
    table[:, 0xE0:0xF0] = of_middle[:, middle[:16]]
    of_middle = np.concatenate((of_middle, invalid), axis=1)
    planes = np.full((5, 64), -1)
    planes.reshape(-1)[16 : 16 + len(middle) - 16] = middle[16:]
    table[:, 0xF0:0xF5] = _states_of(of_middle, planes, rows)
    full = np.concatenate(rows)
    return full, np.concatenate((dfa.accept, np.zeros(len(full) - states, dtype=bool)))


def _states_of(after: Table, nodes: NDArray[np.integer], rows: list[Table]) -> Table:
    """The states within a character: one for each state of characters and each node, unless they agree.

    Args:
        after: where the state of characters `s` leads with the symbol `a`, `[s, a]`.
        nodes: the symbol that each continuation byte stands for, `[nodes, 64]`.
        rows: of the table, to which those of new states are added.

    Returns:
        The state of each `[s, node]`.

    Raises:
        TooLarge: there are more than `MOST_STATES`.
    """
    number = sum(map(len, rows))
    marks = np.random.default_rng(0).integers(2**62, size=(64, 2), dtype=np.uint64)
    mixed = mixed_bits(after)
    found = np.empty((len(after), len(nodes)), dtype=np.int32)
    known: dict[int, int] = {0: 1}
    for n, node in enumerate(nodes):
        symbols, place = np.unique(node, return_inverse=True)
        weights = np.zeros(len(symbols), dtype=np.uint64)
        np.add.at(weights, place, marks[:, 0])
        targets = after[:, symbols]
        hashes = (np.where(targets == 1, np.uint64(0), mixed[:, symbols]) * weights).sum(axis=1, dtype=np.uint64)
        distinct, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        numbers = np.empty(len(distinct), dtype=np.int32)
        fresh = []
        for i, key in enumerate(distinct.tolist()):
            if key not in known:
                known[key] = number
                number += 1
                fresh.append(first[i])
            numbers[i] = known[key]
        if number > MOST_STATES:
            raise TooLarge
        if fresh:
            new = np.ones((len(fresh), 256), dtype=np.int32)
            new[:, 0x80:0xC0] = targets[fresh][:, place]
            rows.append(new)
        found[:, n] = numbers[inverse]
    return found


def _distinct(rows: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """The distinct rows `[rows, 64]`, and the number of each row."""
    weights = np.random.default_rng(1).integers(2**62, size=64, dtype=np.uint64)
    hashes = rows.astype(np.uint64) @ weights
    _, first, number = np.unique(hashes, return_index=True, return_inverse=True)
    return rows[first], number


literal = re.escape
"""The regular expression that matches exactly a text."""
