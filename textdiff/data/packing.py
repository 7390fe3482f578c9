"""Packing: pieces of documents share rows of equal length, with little padding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cut(offsets: NDArray[np.int64], longest: int) -> NDArray[np.int64]:
    """Cut documents that are too long into pieces of `longest` tokens and a remainder.

    A remainder of less than a quarter of that shares its tokens evenly with the piece before it, so that no piece lacks
    context. A full piece fills a row by itself, so that cutting costs no padding.

    Args:
        offsets: `[documents + 1]` token offsets.
        longest: tokens in a piece, at most.

    Returns:
        `[pieces, 2]`: start and stop of each piece in the token array.
    """
    lengths = np.diff(offsets)
    parts = -(-lengths // longest)
    rest = lengths - (parts - 1) * longest
    moved = np.where((parts > 1) & (rest < longest // 4), (longest - rest) // 2, 0)
    document = np.repeat(np.arange(len(lengths)), parts)
    number = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    last, before_last = number == parts[document] - 1, number == parts[document] - 2
    start = offsets[document] + number * longest - last * moved[document]
    stop = np.where(
        last, offsets[document + 1], offsets[document] + (number + 1) * longest - before_last * moved[document]
    )
    return np.stack((start, stop), axis=1)


def pack(lengths: NDArray[np.int64], capacity: int) -> list[NDArray[np.int64]]:
    """Distribute pieces over rows of `capacity` tokens, best fit decreasing.

    Each piece, longest first, is put into the row with the least room that still holds it. Deterministic.

    Args:
        lengths: `[pieces]`, each at most `capacity`.

    Returns:
        For each row the numbers of its pieces.
    """
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    for piece in np.argsort(-lengths, kind="stable"):
        need = int(lengths[piece])
        room = next((r for r in range(need, capacity + 1) if with_room[r]), None)
        if room is None:
            rows.append([])
            row, room = len(rows) - 1, capacity
        else:
            row = with_room[room].pop()
        rows[row].append(int(piece))
        with_room[room - need].append(row)
    return [np.asarray(row, dtype=np.int64) for row in rows]
