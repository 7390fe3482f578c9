"""Worlds that write sentence after sentence: a grammar of short stories, and sums worked out step by step."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, Literal
from zlib import crc32

import torch
from torch import Generator

from textdiff.errors import UserError
from textdiff.posterior.samples import seeded
from textdiff.worlds.automaton import ProbabilisticAutomaton, symbol_tokenizer

Sentence = tuple[str, ...]
Expansion = list[tuple[float, Sentence, Any]]
"""What may follow: probability, the words (tokens with their blanks), and what comes after them."""

Part = Literal["train", "test"]
"""Of all questions that sums can ask: those to train on, and a tenth that is held out."""

PEOPLE = {"Lily": "She", "Mia": "She", "Tom": "He", "Ben": "He"}
THINGS = ("ball", "book", "boat", "hat")


def grammar() -> ProbabilisticAutomaton:
    """Short stories of any number of sentences that agree in who, what and mood.

    "Lily found a ball. She looked at the ball. She was happy. Lily smiled." Whoever finds a thing is happy and smiles
    at the end, whoever loses one is sad and cries.
    """

    def expand(stage: Any) -> Expansion:
        if stage == "begin":
            return [
                (1 / 16 * 0.5, (who, f" {verb}", " a", f" {what}", "."), (who, what, mood))
                for who in PEOPLE
                for what in THINGS
                for verb, mood in (("found", "happy"), ("lost", "sad"))
            ]
        if stage == "end":
            return []
        who, what, mood = stage
        they, their = f" {PEOPLE[who]}", " her" if PEOPLE[who] == "She" else " his"
        act = " smiled" if mood == "happy" else " cried"
        middle: list[tuple[float, Sentence]] = [
            (0.20, (they, " looked", " at" if mood == "happy" else " for", " the", f" {what}", ".")),
            (0.15, (they, " was", f" {mood}", ".")),
            (0.10, (they, " was", " very", f" {mood}", ".")),
            (0.10, (they, " told", their, " mom", ".")),
            (0.05, (they, " told", their, " dad", ".")),
        ]
        return [*((p, words, stage) for p, words in middle), (0.40, (f" {who}", act, "."), "end")]

    return _sentences(expand, "begin", "grammar of short stories")


def arithmetic(operands: int = 3, largest: int = 9) -> ProbabilisticAutomaton:
    """Sums worked out step by step: "6 - 0 - 4 = ?", then "6 - 4 = 2, 2 - 0 = 2", then "2".

    Numbers and signs are uniform. The terms are taken in uniformly random order, so a question has a posterior over
    its chains of thought; question, rationale and answer are a line each. Numbers are written digit by digit.

    Args:
        operands: numbers in a question, 2 or more.
        largest: of the numbers, from 0.

    Raises:
        UserError: a number out of range, or more than a million states (from 5 operands on: see `sums`).
    """
    return _sentences(*_sums(operands, largest), f"arithmetic with {operands} operands", SUM_SYMBOLS)


def sums(
    operands: int = 3,
    largest: int = 9,
    *,
    n: int,
    generator: Generator | int | None = None,
    part: Part | None = None,
) -> Iterator[str]:
    """`n` texts of the world `arithmetic`, of any number of operands: its states are not listed.

    Args:
        operands, largest: see `arithmetic`.
        n: number of texts.
        generator: a generator or a seed.
        part: "test": only questions of the tenth that is held out, "train": only the others; None: all.
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
    """Whether a question, in whatever order of its terms, is of the tenth that training never sees."""
    first, *rest = question.removesuffix(" = ?").split()
    terms = sorted(zip(rest[::2], rest[1::2], strict=True))
    return crc32(repr((first, terms)).encode()) % 10 == 0


def _sums(operands: int, largest: int) -> tuple[Callable[[Any], Expansion], Any]:
    """What may follow in a worked sum, and its first stage."""
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


SUM_SYMBOLS = (*string.digits, *(f" {sign}" for sign in string.digits + "+-=?"), "-", ",", "\n")
"""Tokens of worked sums, however many operands they have."""


def _digits(value: int, blank: str = "") -> Sentence:
    """A number as its tokens: "-12" is "-", "1", "2", the first of them with the blank before it."""
    digits = list(str(value))
    return (blank + digits[0], *digits[1:])


def _worked(total: int, asked: tuple[tuple[str, int], ...], blank: str) -> Expansion:
    """One step of a sum: any of the terms that are left."""
    steps: Expansion = []
    for i, (sign, value) in enumerate(asked):
        after = total + value if sign == "+" else total - value
        rest = asked[:i] + asked[i + 1 :]
        words = (*_digits(total, blank), f" {sign}", *_digits(value, " "), " =", *_digits(after, " "))
        steps.append((1 / len(asked), words, ("next", after, rest) if rest else ("answer", after, ())))
    return steps


def _sentences(
    expand: Callable[[Any], Expansion], begin: Any, name: str, more_symbols: Iterable[str] = ()
) -> ProbabilisticAutomaton:
    """The world of texts that `expand` writes, sentence by sentence, from the stage `begin` on."""
    expand = cache(expand)
    stages, known, symbols = [begin], {begin}, {".", *more_symbols}
    for stage in stages:
        for _, words, after in expand(stage):
            symbols.update(words)
            if after not in known:
                known.add(after)
                stages.append(after)

    def moves(state: tuple[Sentence, Any]) -> tuple[list[tuple[str, float, tuple[Sentence, Any]]], float]:
        words, stage = state
        if words:
            return [(words[0], 1.0, (words[1:], stage))], 0.0
        following = expand(stage)
        return [(some[0], p, (some[1:], after)) for p, some, after in following], 0.0 if following else 1.0

    return ProbabilisticAutomaton.build(symbol_tokenizer(sorted(symbols)), ((), begin), moves, name)
