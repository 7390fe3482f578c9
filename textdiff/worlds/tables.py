"""Worlds of finitely many texts: tables of texts with weights, and two small ones with known modes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.files.fields import TEXT, number
from textdiff.text import encode
from textdiff.worlds.automaton import ProbabilisticAutomaton
from textdiff.worlds.symbols import symbol_tokenizer

PREFERRED_MODES = tuple(3 * pair for pair in ("aa", "ac", "ae", "ca", "cc", "ce", "ea", "ec", "ee"))
"""The nine modes of `modes` without the letters b and d: each is at least two letters of the alphabet from the next."""


def table(texts: Mapping[str, float], tokenizer: PreTrainedTokenizerBase | None = None) -> ProbabilisticAutomaton:
    """A distribution over a few texts, each with its weight.

    Args:
        texts: each text with its weight, above 0; the weights need not sum to 1.
        tokenizer: encodes the texts; by default one token for each character.

    Raises:
        UserError: no text, or a weight that is not above 0.
    """
    if not isinstance(texts, Mapping) or not texts:
        raise UserError("texts is no table: expected texts with their weights, as in {'Once.': 1.0}")
    for text, weight in texts.items():
        TEXT.check("a text of the table", text)
        number(lambda value: value > 0, "a weight above 0").check("the weight of a text", weight)
    if tokenizer is None:
        tokenizer = symbol_tokenizer(sorted(set("".join(texts)) | {"."}))
    rows = {tuple(encode(tokenizer, text)): weight for text, weight in texts.items()}
    mass: dict[tuple[int, ...], float] = {}
    after: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for row, weight in rows.items():
        for end in range(len(row) + 1):
            if row[:end] not in mass and end:
                after.setdefault(row[: end - 1], []).append(row[:end])
            mass[row[:end]] = mass.get(row[:end], 0.0) + weight
    names = {number: text for text, number in tokenizer.get_vocab().items()}

    def moves(prefix: tuple[int, ...]) -> tuple[list[tuple[str, float, tuple[int, ...]]], float]:
        arcs = [(names[longer[-1]], mass[longer] / mass[prefix], longer) for longer in after.get(prefix, [])]
        return arcs, rows.get(prefix, 0.0) / mass[prefix]

    return ProbabilisticAutomaton.build(tokenizer, (), moves, "table")


def integers(skew: float = 0.9) -> ProbabilisticAutomaton:
    """The numbers from 0 to 100 between a hash and a full stop: "#42." is `skew`^42 times as likely as "#0."."""
    return table({f"#{number}.": skew**number for number in range(101)})


def modes(bonus: float = 0.0) -> ProbabilisticAutomaton:
    """Six letters from a to e with 25 modes: a pair of letters three times, as in "#ababab.".

    Args:
        bonus: nats by which `PREFERRED_MODES` are likelier than the others.
    """
    pairs = (one + other for one in "abcde" for other in "abcde")
    return table({f"#{3 * pair}.": math.exp(bonus * (3 * pair in PREFERRED_MODES)) for pair in pairs})
