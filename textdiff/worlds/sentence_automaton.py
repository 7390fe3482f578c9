"""Automata of texts that are made sentence by sentence, by a rule that says which sentences may follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from textdiff.errors import UserError
from textdiff.worlds.automaton import ProbabilisticAutomaton
from textdiff.worlds.states import MOST_STATES
from textdiff.worlds.symbols import symbol_tokenizer

Sentence = tuple[str, ...]
"""The literal tokens of a sentence, blanks included."""

Expansion = list[tuple[float, Sentence, Any]]
"""The continuations of a stage: probability, sentence, and the stage after it."""

Expand = Callable[[Any], Expansion]
"""Stage of a text -> its continuations."""


def sentence_automaton(
    expand: Expand, begin: Any, name: str, more_symbols: Iterable[str] = ()
) -> ProbabilisticAutomaton:
    """The automaton of texts that are made sentence by sentence.

    Args:
        expand: the continuations of each stage; a text ends at a stage without any.
        begin: the stage at the beginning of a text.
        name: of the world.
        more_symbols: tokens that the tokenizer has besides the full stop and those that occur.

    Raises:
        UserError: more than a million states.
    """
    expand = cache(expand)
    stages, known, symbols = [begin], {begin}, {".", *more_symbols}
    for stage in stages:
        for _, words, after in expand(stage):
            symbols.update(words)
            if after not in known:
                known.add(after)
                stages.append(after)
                if len(stages) > MOST_STATES:
                    raise UserError(f"the world {name} has more than {MOST_STATES} states: make it smaller")

    def moves(state: tuple[Sentence, Any]) -> tuple[list[tuple[str, float, tuple[Sentence, Any]]], float]:
        words, stage = state
        if words:
            return [(words[0], 1.0, (words[1:], stage))], 0.0
        following = expand(stage)
        return [(some[0], p, (some[1:], after)) for p, some, after in following], 0.0 if following else 1.0

    return ProbabilisticAutomaton.build(symbol_tokenizer(sorted(symbols)), ((), begin), moves, name)
