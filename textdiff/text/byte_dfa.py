"""Regular expressions as deterministic finite automata over the bytes of UTF-8."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textdiff.errors import UserError

Pending = tuple[bytes, int, int, int]
"""A character of which some bytes are still to come: its bytes so far, if a character of the pattern begins with them;
the number of missing bytes; and the bounds of the next one."""

WHOLE: Pending = (b"", 0, 0, 0)


def byte_dfa(pattern: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The complete automaton of a regular expression: the next state `[states, 256]`, and whether a state accepts.

    State 0 is the initial state. Each state pairs a state of the automaton over characters with the character whose
    bytes are incomplete, see `Pending`.

    Raises:
        UserError: a malformed pattern.
    """
    import interegular
    from interegular.fsm import anything_else

    try:
        fsm = interegular.parse_pattern(pattern).to_fsm()
    except Exception as error:  # its parser raises what it likes
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{pattern!r} is no regular expression that can be used here ({reason}): check brackets and escapes"
        ) from error
    named = {str(char).encode(): key for char, key in fsm.alphabet.items() if char is not anything_else}
    other = fsm.alphabet[anything_else]
    begun = {char[:end] for char in named for end in range(1, len(char))}
    dead: tuple[Any, Pending] = (None, WHOLE)
    number: dict[tuple[Any, Pending], int] = {(fsm.initial, WHOLE): 0, dead: 1}
    queue: list[tuple[Any, Pending]] = list(number)
    rows = []
    for state, pending in queue:
        row = []
        for byte in range(256):
            after = dead if state is None else _next(fsm.map.get(state, {}), pending, byte, named, other, begun, state)
            if after not in number:
                number[after] = len(queue)
                queue.append(after)
            row.append(number[after])
        rows.append(row)
    accept = [pending == WHOLE and state in fsm.finals for state, pending in queue]
    return np.array(rows), np.array(accept)


def _next(
    arcs: Mapping[Any, Any],
    pending: Pending,
    byte: int,
    named: Mapping[bytes, Any],
    other: Any,
    begun: set[bytes],
    state: Any,
) -> tuple[Any, Pending]:
    """The state after one more byte."""
    seen = pending[0] + bytes([byte])
    if seen in named and (pending == WHOLE or pending[0]):
        return (arcs[named[seen]], WHOLE) if named[seen] in arcs else (None, WHOLE)
    missing, low, high = _lead(byte) if pending == WHOLE else (pending[1] - 1, 0x80, 0xBF)
    if missing < 0 or (pending != WHOLE and not pending[2] <= byte <= pending[3]):
        return None, WHOLE
    if missing:
        return state, (seen if seen in begun else b"", missing, low, high)
    return (arcs[other], WHOLE) if other in arcs else (None, WHOLE)


def _lead(byte: int) -> tuple[int, int, int]:
    """The number of bytes that follow the first byte of a character, and the bounds of the next one (RFC 3629).

    The number is -1 if no character begins with this byte.
    """
    if byte < 0x80:
        return 0, 0, 0
    if not 0xC2 <= byte <= 0xF4:
        return -1, 0, 0
    low = {0xE0: 0xA0, 0xF0: 0x90}.get(byte, 0x80)
    high = {0xED: 0x9F, 0xF4: 0x8F}.get(byte, 0xBF)
    return 1 + (byte >= 0xE0) + (byte >= 0xF0), low, high


def literal(text: str) -> str:
    """The regular expression that matches exactly this text."""
    return re.sub(r"([^A-Za-z0-9_\s])", lambda found: f"\\{found[0]}" if found[0].isascii() else found[0], text)
