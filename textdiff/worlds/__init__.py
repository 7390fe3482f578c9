"""Exact worlds: distributions over texts whose posterior is known."""

from textdiff.worlds.automaton import ProbabilisticAutomaton
from textdiff.worlds.catalog import WORLDS, hmm, ngram, table, texts, walk, world
from textdiff.worlds.sentences import arithmetic, grammar, sums

__all__ = [
    "WORLDS",
    "ProbabilisticAutomaton",
    "arithmetic",
    "grammar",
    "hmm",
    "ngram",
    "sums",
    "table",
    "texts",
    "walk",
    "world",
]
