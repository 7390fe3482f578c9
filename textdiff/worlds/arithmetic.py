"""Sums worked out step by step: the world of few operands, and texts of sums with any number of operands."""

from __future__ import annotations

import string
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal
from zlib import crc32

import torch
from torch import Generator

from textdiff.errors import UserError
from textdiff.posterior.samples import seeded
from textdiff.worlds.automaton import ProbabilisticAutomaton
from textdiff.worlds.sentence_automaton import Expand, Expansion, Sentence, sentence_automaton

Part = Literal["train", "test"]
"""Part of all questions: "test" is the tenth that is held out, "train" all others."""

SYMBOLS = (*string.digits, *(f" {sign}" for sign in string.digits + "+-=?"), "-", ",", "\n")
"""Tokens of worked sums, however many operands they have."""


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
    return sentence_automaton(*_sums(operands, largest), f"arithmetic with {operands} operands", SYMBOLS)


def sums(
    operands: int = 3,
    largest: int = 9,
    *,
    n: int,
    generator: Generator | int | None = None,
    part: Part | None = None,
) -> Iterator[str]:
    """Draw `n` texts of the world `arithmetic` for any number of operands, without listing its states.

    Args:
        operands, largest: see `arithmetic`.
        n: number of texts.
        generator: a generator or a seed.
        part: draw only from this part of the questions; None: from all.

    Raises:
        UserError: a number out of range.
    """
    expand, begin = _sums(operands, largest)
    generator = seeded(generator)
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
    if operands < 2 or not 1 <= largest <= 99:
        raise UserError(f"arithmetic({operands}, {largest}): expected 2 or more operands, and 1 to 99 as the largest")
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

    return cache(expand), ("begin", 0, ())


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
