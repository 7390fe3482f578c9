"""Constraints on words, and bounds that are no bounds."""

from __future__ import annotations

import math
import re

import pytest
import torch

from tests.helpers.tiny import tiny
from textdiff.errors import UserError
from textdiff.evidence import Contains, Excludes, Length, Ordered, Regex
from textdiff.text import ProductDFA, encode


def test_words_are_those_of_unicode() -> None:
    tokenizer = tiny().tokenizer
    for word, text in [
        ("caf", "un café noir"),
        ("f", "nur für uns"),
        ("домо", "иду домой"),
        ("cafe", "cafe\u0301"),  # a combining mark is no letter to `re`
        ("café", "le café, oui"),
        ("dog", "a dog\u2014barks"),
        ("red ball", "the red ball"),
    ]:
        present = re.search(rf"\b{word}\b", text) is not None
        for constraint, expected in ((Contains(word), present), (Excludes([word, "zz"]), not present)):
            for dfa in constraint.token_dfas(tokenizer, False, False):
                state = 0
                for token in encode(tokenizer, text):
                    state = int(dfa.step[state, dfa.classes[token]])
                if not dfa.accept[state]:
                    assert not expected, (constraint, text)
                    break
            else:
                assert expected, (constraint, text)


@pytest.mark.parametrize("bound", [-1, math.nan, True, (5, 2), (1, 2, 3), "3", 10**9, (0, 1.5)])
def test_bounds_that_are_none(bound: object) -> None:
    for name in ("tokens", "words", "characters"):
        with pytest.raises(UserError, match=rf"{name} is"):
            Length(**{name: bound})


def test_arguments_of_wrong_types_are_refused() -> None:
    for make in (lambda: Regex(5), lambda: Contains(5), lambda: Excludes([1]), lambda: Ordered(["x"] * 10**5)):
        with pytest.raises(UserError):
            make()
    with pytest.raises(UserError, match="gap is"):
        Regex("a", gap="0")


def test_many_constraints_are_refused_at_once() -> None:
    joined = Excludes("w0") & Excludes("w1")
    with pytest.raises(UserError, match="pieces of evidence"):
        for i in range(10**4):
            joined = joined & Excludes(f"w{i}")
    with pytest.raises(UserError, match="words are asked for"):
        Contains([f"w{i}" for i in range(4000)])
    tokenizer = tiny().tokenizer
    parts = [dfa for i in range(30) for dfa in Excludes(f"w{i}").token_dfas(tokenizer, False, False)]
    with pytest.raises(UserError, match="too large an automaton together"):
        ProductDFA.of([(dfa, torch.ones(20, dtype=torch.bool)) for dfa in parts], "many")
