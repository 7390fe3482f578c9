"""Exact worlds: distributions over texts whose posterior is known exactly."""

from textdiff.worlds.arithmetic import arithmetic, sums
from textdiff.worlds.automaton import ProbabilisticAutomaton
from textdiff.worlds.catalog import WORLDS, texts, world
from textdiff.worlds.chains import hmm, ngram, walk
from textdiff.worlds.grammar import grammar
from textdiff.worlds.tables import table

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
