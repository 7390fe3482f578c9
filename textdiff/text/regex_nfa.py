"""Regular expressions as nondeterministic finite automata over characters, built from the tree of Python's parser."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

from textdiff.errors import UserError, reason
from textdiff.text.characters import Ranges, matched

MOST_CHARACTERS = 2**16
"""Of a pattern."""
MOST_NODES = 2**15
"""Of an automaton of a pattern."""

REFUSED = {
    _constants.ASSERT: "a look-ahead or look-behind",
    _constants.ASSERT_NOT: "a negative look-ahead or look-behind",
    _constants.GROUPREF: "a back-reference",
    _constants.GROUPREF_EXISTS: "a conditional group",
    getattr(_constants, "ATOMIC_GROUP", None): "an atomic group",
    getattr(_constants, "POSSESSIVE_REPEAT", None): "a possessive quantifier",
}
"""What cannot be an automaton, or only one that means something else."""


@dataclass
class NFA:
    """An automaton that reads one character, or checks one condition, from a node to the next; node 0 accepts.

    Attributes:
        free: for each node, the nodes that are reached without a character, each with a condition on what stands
            before and after (an anchor of Python's parser, and whether `\\w` is ASCII) or None.
        reads: for each node, sets of characters by their numbers, each with the node that is reached by one of them.
        sets: the sets of characters.
        ranks: for nodes in copies of a repeated piece, numbers of the same place and the rank of the copy; from a place
            in a copy of higher rank more texts are accepted. A node may be in copies of several pieces.
        start: the first node.
    """

    free: list[list[tuple[tuple[Any, bool] | None, int]]] = field(default_factory=lambda: [[]])
    reads: list[list[tuple[int, int]]] = field(default_factory=lambda: [[]])
    sets: dict[Ranges, int] = field(default_factory=dict)
    ranks: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    start: int = 0

    def node(self, free: list[tuple[tuple[Any, bool] | None, int]], *reads: tuple[int, int]) -> int:
        """Add a node.

        Raises:
            TooLarge: there are `MOST_NODES` already.
        """
        if len(self.free) >= MOST_NODES:
            raise TooLarge
        self.free.append(free)
        self.reads.append(list(reads))
        return len(self.free) - 1

    def rank(self, first: int, base: int, rank: int) -> None:
        """Note that the nodes from `first` on are a copy of those from `base` on, and rank them, see `ranks`."""
        for node in range(first, len(self.free)):
            self.ranks.setdefault(node, []).append((base + node - first, rank))


class TooLarge(Exception):
    """An automaton exceeds its budget while it is built."""


def nfa(pattern: str) -> NFA:
    """The automaton of a regular expression.

    Raises:
        UserError: a malformed pattern, or one with a construct that no automaton follows.
        TooLarge: it has more than `MOST_NODES` nodes.
    """
    if len(pattern) > MOST_CHARACTERS:
        raise UserError(f"the pattern has {len(pattern)} characters, at most {MOST_CHARACTERS} are taken: shorten it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about patterns that may mean something else some day
            tree = _parser.parse(pattern)
        builder = _Builder(pattern)
        builder.nfa.start = builder.sequence(tree, tree.state.flags, 0)
    except RecursionError as error:
        raise UserError(f"the groups of the pattern {pattern!r} are nested too deeply: nest fewer") from error
    except (re.error, OverflowError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{pattern!r} is no regular expression ({reason(error)}): check brackets and escapes"
        ) from error
    return builder.nfa


class _Builder:
    """Builds an automaton from its end: each piece is given the node that comes after it."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.nfa = pattern, NFA()
        self.pieces: dict[tuple[str, int], int] = {}

    def sequence(self, pieces: Any, flags: int, after: int) -> int:
        """The first node of some pieces in a row."""
        for piece in reversed(list(pieces)):
            after = self.piece(piece, flags, after)
        return after

    def piece(self, piece: tuple[Any, Any], flags: int, after: int) -> int:
        """The first node of a piece of a pattern."""
        operation, value = piece
        if operation in REFUSED:
            raise UserError(
                f"the pattern {self.pattern!r} has {REFUSED[operation]}, which constraints cannot follow: write it "
                "without, or as several constraints"
            )
        if operation is _constants.SUBPATTERN:
            _, added, removed, inner = value
            kinds = re.ASCII | re.LOCALE | re.UNICODE
            flags = (flags & ~kinds if added & kinds else flags) | added
            return self.sequence(inner, flags & ~removed, after)
        if operation is _constants.BRANCH:
            return self.nfa.node([(None, self.sequence(choice, flags, after)) for choice in value[1]])
        if operation in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
            least, most, inner = value
            return self.repeat(least, most, inner, flags, after)
        if operation is _constants.AT:
            if flags & re.MULTILINE:
                value = _constants.AT_MULTILINE.get(value, value)
            return self.nfa.node([((value, bool(flags & re.ASCII)), after)])
        key = (repr(piece), flags)
        if key not in self.pieces:
            self.pieces[key] = self.nfa.sets.setdefault(matched(piece, flags), len(self.nfa.sets))
        return self.nfa.node([], (self.pieces[key], after))

    def repeat(self, least: int, most: int, inner: Any, flags: int, after: int) -> int:
        """The first node of a repeated piece; whether it is greedy does not matter to a match of the whole text."""
        if least > MOST_NODES or (most is not _constants.MAXREPEAT and most > MOST_NODES):
            raise TooLarge
        node, base = after, len(self.nfa.free)
        if most is _constants.MAXREPEAT:
            node = self.nfa.node([(None, after)])
            base += 1
            self.nfa.free[node].append((None, self.sequence(inner, flags, node)))
            self.nfa.rank(base, base, 0)
        else:
            for copy in range(most - least):
                first = len(self.nfa.free)
                node = self.nfa.node([(None, self.sequence(inner, flags, node)), (None, after)])
                self.nfa.rank(first, base, copy)
        for copy in range(least):
            first = len(self.nfa.free)
            node = self.sequence(inner, flags, node)
            if len(self.nfa.free) == first:
                break  # nothing is repeated
            if most is _constants.MAXREPEAT:
                self.nfa.rank(first, base, -1 - copy)
        return node
