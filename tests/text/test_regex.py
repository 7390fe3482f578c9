"""Regular expressions as automata: they mean what `re.fullmatch` means, or are refused."""

from __future__ import annotations

import pytest

from tests.helpers.random_regexes import disagreements
from textdiff.errors import UserError
from textdiff.text.byte_dfa import byte_dfa


def accepts(pattern: str, text: str) -> bool:
    table, accept = byte_dfa(pattern)
    state = 0
    for byte in text.encode():
        state = table[state, byte]
    return bool(accept[state])


def test_random_patterns_mean_what_re_means() -> None:
    counts, wrong = disagreements(seed=0, patterns=100)
    assert not wrong
    assert counts["matched"] > 300


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("(?=a)a", "look-ahead"),
        ("(?<!b)a", "negative look-ahead or look-behind"),
        (r"(a)\1", "back-reference"),
        ("(?P<n>a)(?P=n)", "back-reference"),
        ("a*+", "possessive"),
        ("(?>a|b)", "atomic"),
        ("(a)?(?(1)b|c)", "conditional"),
        ("(a", "missing"),
        ("(" * 30_000, "nested too deeply"),
        ("a{99999999999}", "too large"),
        ("\ud800", "lone surrogate"),
    ],
)
def test_what_no_automaton_follows_is_refused_by_name(pattern: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        byte_dfa(pattern)


@pytest.mark.parametrize(
    "pattern",
    [".*a.{20}", "(a{1000}){1000}", "a{1000000000}", "x" * 10**6, "(a?){4000}", "(?:(?:a{0,99}){0,99}){0,99}"],
)
def test_large_automata_are_refused_while_they_are_built(pattern: str) -> None:
    with pytest.raises(UserError, match=r"too large|at most"):
        byte_dfa(pattern)


def test_patterns_whose_smallest_automaton_is_small() -> None:
    for pattern in (".*dog.{0,20}", "(?:.{1,3} ){1,40}", ".*.{0,2000}", r"[A-Z][a-z ,.!]{60,200}[.]"):
        assert len(byte_dfa(pattern)[0]) < 4096
    assert accepts(".*dog.{0,20}", "a dog" + 20 * "é") and not accepts(".*dog.{0,20}", "a dog" + 21 * "é")


def test_a_blank_before_the_match() -> None:
    table, accept = byte_dfa("(?x)^ a? # a comment", blank=True, may_be_empty=True)
    after = table[0, ord(" ")]
    assert accept[0] and accept[after] and accept[table[after, ord("a")]] and not accept[table[0, ord("a")]]
