"""Sums worked out step by step: the world of few operands, and texts of sums with any number of operands."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal
from zlib import crc32

import torch
from torch import Generator

from textdiff.errors import UserError
from textdiff.files.fields import check_fields, choice, whole
from textdiff.posterior.samples import seeded
from textdiff.worlds.automaton import ProbabilisticAutomaton
from textdiff.worlds.sentence_automaton import Expand, Expansion, Sentence, sentence_automaton
from textdiff.worlds.states import MOST_STATES

Part = Literal["train", "test"]
"""Part of all questions: "test" is the tenth that is held out, "train" all others."""

SYMBOLS = (*string.digits, *(f" {sign}" for sign in string.digits + "+-=?"), "-", ",", "\n")
"""Tokens of worked sums, however many operands they have."""

MOST_OPERANDS = 32
STATES_PER_STEP = 7
"""At least so many states of the automaton belong to a first step of a sum: its tokens."""
STAGES_KEPT = 2**12
"""Whose continuations are remembered while texts are drawn."""


def arithmetic(operands: int = 3, largest: int = 9) -> ProbabilisticAutomaton:
    """Sums worked out step by step: "6 - 0 - 4 = ?", then "6 - 4 = 2, 2 - 0 = 2", then "2".

    Numbers and signs are uniform. The terms are taken in uniformly random order, so a question has a posterior over its
    rationales. Question, rationale and answer are a line each, and each digit is a token.

    Args:
        operands: numbers in a question, 2 or more.
        largest: the largest number; the smallest is 0.

    Raises:
        UserError: a number out of range, or more than a million states (from 5 operands on: see `sums`).
    """
    rule = _sums(operands, largest)
    terms, asked = 2 * (largest + 1), operands - 1
    if STATES_PER_STEP * (largest + 1) * terms * math.comb(terms + asked - 2, asked - 1) > MOST_STATES:
        raise UserError(
            f"arithmetic with {operands} operands up to {largest} has more than {MOST_STATES} states: take fewer "
            "operands (4 with numbers up to 9), or draw texts with sums()"
        )
    return sentence_automaton(*rule, f"arithmetic with {operands} operands", SYMBOLS)


def sums(
    operands: int = 3,
    largest: int = 9,
    *,
    n: int,
    generator: Generator | int | None = None,
    part: Part | None = None,
) -> Iterator[str]:
    """Draw `n` texts of the world `arithmetic` for up to 32 operands, without listing its states.

    Args:
        operands, largest: see `arithmetic`.
        n: number of texts.
        generator: a generator or a seed.
        part: draw only from this part of the questions; None: from all.

    Raises:
        UserError: a number out of range.
    """
    expand, begin = _sums(operands, largest)
    fields = {"n": whole(0), "part": choice("train", "test").optional()}
    check_fields({"n": n, "part": part}, fields)
    return _draw_sums(expand, begin, n, seeded(generator), part)


def _draw_sums(expand: Expand, begin: Any, n: int, generator: Generator, part: Part | None) -> Iterator[str]:
    """The texts of `sums`."""
    while n > 0:
        text, stage = "", begin
        while following := expand(stage):
            weights = torch.tensor([p for p, _, _ in following], dtype=torch.float64)
            _, words, stage = following[int(torch.multinomial(weights, 1, generator=generator))]
            text += "".join(words)
        if part is None or part == ("test" if _held_out(text.partition("\n")[0]) else "train"):
            n -= 1
            yield text


def _held_out(question: str) -> bool:
    """Whether a question belongs to the tenth that is held out from training, whatever the order of its terms."""
    first, *rest = question.removesuffix(" = ?").split()
    terms = sorted(zip(rest[::2], rest[1::2], strict=True))
    return crc32(repr((first, terms)).encode()) % 10 == 0


def _sums(operands: int, largest: int) -> tuple[Expand, Any]:
    """The continuations of each stage of a worked sum, and its first stage."""
    fields = {"operands": whole(2, MOST_OPERANDS), "largest": whole(1, 99)}
    check_fields({"operands": operands, "largest": largest}, fields)
    terms = [(sign, value) for sign in ("+", "-") for value in range(largest + 1)]

    def expand(stage: Any) -> Expansion:
        kind, total, asked = stage
        if kind == "begin":
            share = 1 / (largest + 1)
            return [(share, _digits(value), ("ask", value, ())) for value in range(largest + 1)]
        if kind == "ask" and len(asked) < operands - 1:
            return [
                (
                    1 / len(terms),
                    (f" {sign}", *_digits(value, " ")),
                    ("ask", total, tuple(sorted((*asked, (sign, value))))),
                )
                for sign, value in terms
            ]
        if kind == "ask":
            return [(p, (" =", " ?", "\n", *words), after) for p, words, after in _worked(total, asked, blank="")]
        if kind == "next":
            return [(p, (",", *words), after) for p, words, after in _worked(total, asked, blank=" ")]
        if kind == "answer":
            return [(1.0, ("\n", *_digits(total)), ("end", 0, ()))]
        return []

    return lru_cache(STAGES_KEPT)(expand), ("begin", 0, ())


def _digits(value: int, blank: str = "") -> Sentence:
    """The tokens of a number: "-12" is "-", "1", "2"; the first begins with `blank`."""
    digits = list(str(value))
    return (blank + digits[0], *digits[1:])


def _worked(total: int, asked: tuple[tuple[str, int], ...], blank: str) -> Expansion:
    """One step of a sum, with any of the remaining terms."""
    steps: Expansion = []
    for i, (sign, value) in enumerate(asked):
        after = total + value if sign == "+" else total - value
        rest = asked[:i] + asked[i + 1 :]
        words = (*_digits(total, blank), f" {sign}", *_digits(value, " "), " =", *_digits(after, " "))
        steps.append((1 / len(asked), words, ("next", after, rest) if rest else ("answer", after, ())))
    return steps
