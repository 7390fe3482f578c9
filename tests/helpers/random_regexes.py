"""Random regular expressions over all constructs of `re`, and random texts that often match them."""

from __future__ import annotations

import random
import re
import signal
import warnings
from collections.abc import Iterator
from re import _constants, _parser  # type: ignore[attr-defined]

from textdiff.errors import UserError
from textdiff.text.byte_dfa import byte_dfa

LETTERS = "aabbcdkKsS01_ -.,\n\t]^éßÉſKfürдомdžǅ中٣ı\u0301\u00a0\u2028\u0130\U0001f600\U00010400\U00010428"
"""Characters of every length in UTF-8, with odd cases, digits, blanks and combining marks."""
ESCAPES = [r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", r"\u0041", r"\x61", r"\n", r"\t", r"\.", r"\101", r"\U0001F600"]
IN_CLASS = [*ESCAPES, "a-c", "0-9", "é-ü", r"\]", "^", ".", "[", "A-z", "а-я", "\u2000-\u3000", "α-\U00010440"]
ANCHORS = ["^", "$", r"\A", r"\Z", r"\b", r"\B"]
COUNTS = ["*", "+", "?", "{2}", "{0,2}", "{1,3}", "{2,}", "{,2}", "*?", "+?", "??", "{1,2}?", "{0}", "{x}", "{,"]
SCOPED = ["i", "a", "s", "m", "x", "-i", "i-s", "u", "ai"]
REFUSED = ["(?=a)", "(?!a)", "(?<=a)", "(?<!b)", r"(a)\1", "a*+", "(?>a|b)", "(a)?(?(1)b|c)", "(?P<n>a)(?P=n)"]


def pattern(rng: random.Random, depth: int = 3) -> str:
    """A random pattern; most can be parsed."""
    flags = f"(?{rng.choice(['i', 'a', 's', 'm', 'x', 'ai', 'im', 'isx', 'u'])})" if rng.random() < 0.25 else ""
    return flags + _choice(rng, depth)


def _choice(rng: random.Random, depth: int) -> str:
    return "|".join(_sequence(rng, depth) for _ in range(rng.choices([1, 2, 3], [7, 2, 1])[0]))


def _sequence(rng: random.Random, depth: int) -> str:
    return "".join(_piece(rng, depth) for _ in range(rng.choices([0, 1, 2, 3, 4], [1, 4, 5, 4, 2])[0]))


def _piece(rng: random.Random, depth: int) -> str:
    chance = rng.random()
    if chance < 0.12:
        return rng.choice(ANCHORS)
    if chance < 0.14:
        return rng.choice(["(?#a comment)", "# comment\n", " "])
    if chance < 0.15:
        return rng.choice(REFUSED)
    atom = _atom(rng, depth)
    return atom + (rng.choice(COUNTS) if rng.random() < 0.4 else "")


def _atom(rng: random.Random, depth: int) -> str:
    chance = rng.random()
    if depth and chance < 0.3:
        scoped = f"?{rng.choice(SCOPED)}:"
        return f"({rng.choice(['', '?:', '?:', scoped, f'?P<g{rng.randrange(10**9)}>'])}{_choice(rng, depth - 1)})"
    if chance < 0.4:
        return "."
    if chance < 0.55:
        return rng.choice(ESCAPES)
    if chance < 0.72:
        inside = "".join(rng.choice([*IN_CLASS, *LETTERS]) for _ in range(rng.randint(1, 4)))
        return f"[{rng.choice(['', '', '^'])}{rng.choice(['', '', ']'])}{inside}]"
    return re.escape(rng.choice(LETTERS)) if rng.random() < 0.9 else rng.choice(LETTERS)


def texts(pattern: str, rng: random.Random, n: int) -> Iterator[str]:
    """Texts of which many match a pattern, or nearly."""
    tree = _parser.parse(pattern)
    for _ in range(n):
        text = _matching(tree, rng, bool(tree.state.flags & re.IGNORECASE))[:16]
        while rng.random() < 0.35:
            at = rng.randint(0, len(text))
            text = text[:at] + rng.choice([*LETTERS, ""]) + text[at + rng.randint(0, 1) :]
        yield text


def _matching(pieces: object, rng: random.Random, ignore_case: bool) -> str:
    text = ""
    for operation, value in pieces:  # type: ignore[attr-defined]
        if operation is _constants.LITERAL:
            character = chr(value)
            text += rng.choice([character, character.swapcase()[:1]]) if ignore_case else character
        elif operation is _constants.IN:
            kind, member = rng.choice(value)
            if kind is _constants.LITERAL:
                text += chr(member)
            elif kind is _constants.RANGE:
                text += chr(rng.choice([member[0], member[1], rng.randint(*member)]))
            else:
                text += rng.choice(LETTERS)
        elif operation in (_constants.ANY, _constants.NOT_LITERAL):
            text += rng.choice(LETTERS)
        elif operation is _constants.BRANCH:
            text += _matching(rng.choice(value[1]), rng, ignore_case)
        elif operation is _constants.SUBPATTERN:
            text += _matching(value[3], rng, ignore_case or bool(value[1] & re.IGNORECASE))
        elif operation in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
            least, most, inner = value
            count = rng.randint(least, min(int(most), least + 2))
            text += "".join(_matching(inner, rng, ignore_case) for _ in range(count))
    return "".join(character for character in text if not "\ud800" <= character <= "\udfff")


class _Slow(Exception):
    """`re` takes too long."""


def _fullmatch(compiled: re.Pattern[str], text: str) -> bool | None:
    """What `re` says; None if that takes it over a second, as nested repetitions may. In the main thread."""

    def stop(*_: object) -> None:
        raise _Slow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        return compiled.fullmatch(text) is not None
    except _Slow:
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def disagreements(seed: int, patterns: int, texts_each: int = 12) -> tuple[dict[str, int], list[tuple[str, str, bool]]]:
    """Random patterns and texts for which our automata and `re.fullmatch` differ.

    Returns:
        How many patterns were accepted, refused and malformed, how many texts were tried and how many of them matched;
        and each pattern and text that is accepted by one alone, with the answer of `re`.
    """
    rng = random.Random(seed)
    counts = dict.fromkeys(("accepted", "refused", "malformed", "texts", "matched"), 0)
    wrong = []
    while counts["accepted"] + counts["refused"] < patterns:
        candidate = pattern(rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                compiled = re.compile(candidate)
            except (re.error, OverflowError, ValueError):
                counts["malformed"] += 1
                continue
            tried = [*texts(candidate, rng, texts_each), ""]
        try:
            table, accept = byte_dfa(candidate)
        except UserError:
            counts["refused"] += 1
            continue
        counts["accepted"] += 1
        for text in tried:
            state = 0
            for byte in text.encode():
                state = int(table[state, byte])
            expected = _fullmatch(compiled, text)
            if expected is None:
                continue
            counts["texts"] += 1
            counts["matched"] += expected
            if bool(accept[state]) != expected:
                wrong.append((candidate, text, expected))
    return counts, wrong
