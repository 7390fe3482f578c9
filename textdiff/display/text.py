"""Text as it is shown: a filled template in pieces, tokens that share characters, control characters made visible."""

from __future__ import annotations

import re
from collections.abc import Iterable

from textdiff.text import Filled, Gap, Template


def segments(template: Template, filled: Filled) -> tuple[tuple[str, int | None], ...]:
    """The filled text in pieces: known text with None, fills with the number of their gap. Joined they are the text."""
    fills, numbers, pattern = iter(filled.fills), list[int | None](), ""
    for part, after in zip(template.parts, (*template.parts[1:], ""), strict=True):
        if isinstance(part, Gap):
            numbers.append(sum(number is not None for number in numbers))
            pattern += f"({re.escape(next(fills))})"
        else:
            # The blank before a gap belongs to its fill: it may be missing where the fill is empty.
            numbers.append(None)
            pattern += f"({re.escape(part)}{'?' * (isinstance(after, Gap) and part.endswith(' '))})"
    match = re.fullmatch(pattern, filled.text)
    assert match is not None
    return tuple((piece, number) for piece, number in zip(match.groups(), numbers, strict=True) if piece)


def readable(contents: Iterable[bytes | None]) -> tuple[str | None, ...]:
    """The text of each token among its neighbours, None where it is not known.

    A character spread over several tokens is shown with the token in which it begins.
    """
    texts: list[bytes] = []
    known: list[bool] = []
    begun = None  # the token in which the last character begins
    for content in contents:
        if content is None:
            begun = None
        elif begun is not None:
            own = content.lstrip(bytes(range(0x80, 0xC0)))
            texts[begun] += content[: len(content) - len(own)]
            content = own
        if content:
            begun = len(texts)
        texts.append(content or b"")
        known.append(content is not None)
    return tuple(text.decode("utf-8", "replace") if shown else None for text, shown in zip(texts, known, strict=True))


def visible(text: str) -> str:
    """The text with control characters as pictures, so that they do nothing where it is shown."""
    return text.translate(_PICTURES)


_PICTURES = {code: 0x2400 + code for code in range(32) if code not in (9, 10)}
_PICTURES |= {127: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
