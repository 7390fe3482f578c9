"""What hostile cases are made of: odd texts, odd values, and damage."""

from __future__ import annotations

import math
import os
from random import Random
from typing import Any

from tests.helpers.campaign.case import EXECUTED

PLAIN = ("Lily lost her ball.", "She was happy again.", "Tom saw a dog", " in the park.", "One day, ", "The end.\n")
ODD = (
    "", " ", "  ", "\n", "\r\n", "\t", "\0", "\x1b[31m", "\x7f", "\u200b", "\u202e", "\ufeff", "\u2028", "e\u0301", "ß",
    "İ", "ﬁ", "日本語", "🐈", "👩‍👩‍👧", "\U0010ffff", "é", "\\", "\\\\", "[", "]", "[[", "{0}", "%s", "${HOME}",
    "[red]",
    "[/red]", "<mask>", "<|endoftext|>", "<pad>", "<s>", "</s>", "[MASK]", "<null>", "'", '"', "`", "$(touch x)",
    "null",
    "None", "nan", "-1", "--help", "~", "*", "../..", "gap", "[gapless]", "[GAP]", "[gap", "gap]",
)  # fmt: skip
MARKERS = ("[gap]", "[gap:1]", "[gap:2]", "[gap:1-3]", "[gap:0-2]", "[gap:3-4]")
BAD_MARKERS = (
    "[gap:0]", "[gap:-1]", "[gap:9-1]", "[gap:]", "[gap:x]", "[gap:1-]", "[gap: 1 - 2 ]", "[gap:1.5]", "[gap:1e9]",
    "[gap:999999]", "[gap:1-999999]", "[gap:9999999]", "[gap:" + "9" * 5000 + "]", "[gap:٣]", "[gap[gap]]", "[gap:1",
    "[gap gap]", "\\[gap]", "\\\\[gap]", "\\" * 40_000 + "[gap]", "[gap:0-0]", "[gap:999999] x " * 30,
    "[gap:1] " * 3000,
)  # fmt: skip
WRONG: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**9, 10**18, 2**63, 2**64, 10**400, -(10**400), math.nan, math.inf, -math.inf,
    1e308, 1e-320,
    "", "1", "x", "\ud800", "a\0b", "x" * 50_000, b"x", (), [], {}, [1], ["x"], {"x": 1}, {1: 2}, set(), object(), int,
    len, 1j, range(3), [[]], [None], ...,
)  # fmt: skip


def text(random: Random, most: int = 6) -> str:
    """A text of plain and odd pieces, no marker of a gap among them on purpose."""
    pieces = random.choices(PLAIN, k=random.randint(1, most)) + random.choices(ODD, k=random.randint(0, most))
    random.shuffle(pieces)
    return "".join(pieces)


def template(random: Random) -> str:
    """A text with some gaps, some of them malformed."""
    parts = [text(random, 2)]
    for _ in range(random.randint(1, 3)):
        parts += [random.choice(BAD_MARKERS if random.random() < 0.2 else MARKERS), text(random, 2)]
    whole = "".join(parts)
    if random.random() < 0.1:
        place = random.randrange(len(whole) + 1)
        whole = whole[:place] + random.choice(("\ud800", "\udcff", chr(random.randrange(0x110000)))) + whole[place:]
    return whole


def damaged(random: Random, content: bytes) -> bytes:
    """The content with one kind of damage."""
    place = random.randrange(len(content) + 1)
    way = random.randrange(7)
    if way == 0:
        return content[:place]
    if way == 1 and content:
        place = random.randrange(len(content))
        return content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :]
    if way == 2:
        return content[:place] + random.randbytes(random.randint(1, 16)) + content[place:]
    if way == 3:
        end = random.randrange(place, len(content) + 1)
        return content[:place] + content[end:]
    if way == 4:
        return content[:place] + bytes(min(4096, len(content) - place)) + content[place + 4096 :]
    if way == 5:
        return content[:place] + content[: random.randint(1, 200)] + content[place:]
    return random.choice((b"", b"\xff\xfe", random.randbytes(200), b"{}", b"[]", b"null", b"\0" * 100, b"PK\x03\x04"))


class Payload:
    """What a pickle executes when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (EXECUTED,)


def shown(value: object, most: int = 160) -> str:
    """A value in at most so many characters, printable."""
    line = ascii(value)
    return line if len(line) <= most else f"{line[: most - 20]}... ({len(line)} characters)"
