"""A grammar of short stories whose sentences agree with each other."""

from __future__ import annotations

from typing import Any

from textdiff.worlds.automaton import ProbabilisticAutomaton
from textdiff.worlds.sentence_automaton import Expansion, Sentence, sentence_automaton

PEOPLE = {"Lily": "She", "Mia": "She", "Tom": "He", "Ben": "He"}
THINGS = ("ball", "book", "boat", "hat")


def grammar() -> ProbabilisticAutomaton:
    """Short stories of any number of sentences that agree in person, thing and mood.

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

    return sentence_automaton(expand, "begin", "grammar of short stories")
