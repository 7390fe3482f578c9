"""Sets of characters: what one piece of a regular expression matches, and the classes into which sets cut Unicode."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ranges = tuple[tuple[int, int], ...]
"""A set of code points: disjoint ranges in ascending order, each with its first one and the one after its last."""

CODE_POINTS = sys.maxunicode + 1
SURROGATES: Ranges = ((0xD800, 0xE000),)
"""Code points that are no characters: UTF-8 has no bytes for them."""
NEWLINE: Ranges = ((10, 11),)
BLANK: Ranges = ((32, 33),)


def matched(piece: tuple[Any, Any], flags: int) -> Ranges:
    """The characters that a piece of a pattern matches which takes exactly one.

    Args:
        piece: operation and argument, as Python's own parser gives them.
        flags: of `re`, those that are in force at this place.
    """
    if not flags & re.IGNORECASE:
        return _as_written(piece, flags)
    cased = _cased()  # what has no case is not changed by the flag; of the rest Python's own engine is asked
    points = {piece[1]} if piece[0] is _constants.LITERAL else set()
    asked = sorted(points.union(cased))
    found = _asked(piece, flags, "".join(map(chr, asked)))
    alike = _union((at, at + 1) for at in asked)
    kept = _complement(_union([*_complement(_as_written(piece, flags)), *alike]))
    return _union([*kept, *((asked[i], asked[i] + 1) for span in found for i in range(*span))])


def _as_written(piece: tuple[Any, Any], flags: int) -> Ranges:
    """What a piece matches where upper case differs from lower case."""
    operation, value = piece
    if operation is _constants.LITERAL:
        return ((value, value + 1),)
    if operation is _constants.NOT_LITERAL:
        return _complement(((value, value + 1),))
    if operation is _constants.ANY:
        return ((0, CODE_POINTS),) if flags & re.DOTALL else _complement(NEWLINE)
    assert operation is _constants.IN
    ranges: list[tuple[int, int]] = []
    for kind, member in value:
        if kind is _constants.LITERAL:
            ranges.append((member, member + 1))
        elif kind is _constants.RANGE:
            ranges.append((member[0], member[1] + 1))
        elif kind is _constants.CATEGORY:
            ranges += _category(member, flags & (re.ASCII | re.UNICODE))
    found = _union(ranges)
    return _complement(found) if value[0][0] is _constants.NEGATE else found


@lru_cache(maxsize=32)
def _category(category: Any, flags: int) -> Ranges:
    every = "".join(map(chr, range(CODE_POINTS)))
    return _asked((_constants.IN, [(_constants.CATEGORY, category)]), flags, every)


def word_characters(flags: int) -> Ranges:
    """What `\\w` matches."""
    return _category(_constants.CATEGORY_WORD, flags & (re.ASCII | re.UNICODE))


@lru_cache(maxsize=1)
def _cased() -> tuple[int, ...]:
    """The characters that equal another one where case is ignored."""
    import _sre  # type: ignore[import-not-found]

    lower = {point: low for point in range(CODE_POINTS) if (low := _sre.unicode_tolower(point)) != point}
    extra = [point for low, others in _casefix_table().items() for point in (low, *others)]
    return tuple(sorted({*lower, *lower.values(), *extra}))


def _casefix_table() -> dict[int, Sequence[int]]:
    from re import _casefix  # type: ignore[attr-defined]

    return dict(_casefix._EXTRA_CASES)


def _asked(piece: tuple[Any, Any], flags: int, characters: str) -> Ranges:
    """Where in a text runs of the characters stand that Python's own engine matches with a piece."""
    state = _parser.State()
    state.flags, state.str = flags, ""
    one = _parser.SubPattern(state, [piece])
    run = _parser.SubPattern(state, [(_constants.MAX_REPEAT, (1, _constants.MAXREPEAT, one))])
    return tuple(found.span() for found in _compiler.compile(run).finditer(characters))


def _union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return tuple(merged)


def _complement(ranges: Ranges) -> Ranges:
    edges = [0, *(edge for span in ranges for edge in span), CODE_POINTS]
    return tuple((first, end) for first, end in list(pairwise(edges))[::2] if first < end)


def classes_of(sets: Sequence[Ranges]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The coarsest classes of characters that tell the sets apart.

    Returns:
        The class of each code point, -1 for surrogates; and the classes of each set, bool `[sets, classes]`.
    """
    marks = np.random.default_rng(0).integers(2**62, size=len(sets) + 1, dtype=np.uint64)
    spans = [(span, mark) for ranges, mark in zip([*sets, SURROGATES], marks, strict=True) for span in ranges]
    ends = np.array([span for span, _ in spans], dtype=np.int64).reshape(-1, 2)
    weight = np.array([mark for _, mark in spans], dtype=np.uint64)
    edges, at = np.unique(np.concatenate(([0, CODE_POINTS], ends.flatten())), return_inverse=True)
    change = np.zeros(len(edges), dtype=np.uint64)
    np.add.at(change, at[2::2], weight)
    np.subtract.at(change, at[3::2], weight)
    _, first, number = np.unique(change.cumsum()[:-1], return_index=True, return_inverse=True)
    surrogate = int(number[np.searchsorted(edges, SURROGATES[0][0])])
    kept = np.arange(len(first)) != surrogate
    renamed = np.where(kept, kept.cumsum() - 1, -1).astype(np.int32)
    members = edges[first[kept]]
    inside = np.zeros((len(sets), len(members)), dtype=bool)
    for row, ranges in zip(inside, sets, strict=True):
        if ranges:
            bounds = np.array(ranges)
            place = np.searchsorted(bounds[:, 0], members, side="right") - 1
            row[:] = (place >= 0) & (members < bounds[place, 1])
    return renamed[number].repeat(np.diff(edges)), inside
