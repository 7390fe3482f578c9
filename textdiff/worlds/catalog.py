"""All worlds by name, and texts drawn from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Generator

from textdiff.errors import UserError
from textdiff.files import check_plain
from textdiff.files.fields import TEXT, whole
from textdiff.posterior.samples import seeded
from textdiff.text import Canvas, decode
from textdiff.worlds.arithmetic import arithmetic
from textdiff.worlds.automaton import ProbabilisticAutomaton
from textdiff.worlds.chains import hmm, ngram, walk
from textdiff.worlds.grammar import grammar
from textdiff.worlds.symbols import symbol_tokenizer
from textdiff.worlds.tables import integers, modes

WORLDS: dict[str, Callable[[], ProbabilisticAutomaton]] = {
    "hmm": hmm,
    "walk": walk,
    "grammar": grammar,
    "arithmetic": arithmetic,
    "integers": integers,
    "integers-alike": partial(integers, skew=1.0),
    "modes": modes,
    "modes-9": partial(modes, bonus=5.0),
}

MOST_BYTES = 2**27
"""Of a text whose trigrams are counted."""

SEPARATOR = "<|endoftext|>"
"""Ends a document in a file of texts."""

MOST_TEXTS = 2**20
"""That are drawn at once."""

DEFAULT_LENGTH = 64
"""Tokens in a text of `texts`, where the world does not model lengths."""


def world(name: str) -> ProbabilisticAutomaton:
    """A world by its name, with its defaults.

    Args:
        name: "hmm", "walk", "grammar", "arithmetic" (of 3 operands; "arithmetic-4" has 4), or "ngram@FILE": trigrams of
            the characters of a text file whose documents end with `<|endoftext|>`. "hmm^aeiou=0.5" is the world "hmm"
            with a reward of 0.5 nats for each of these symbols, and "grammar^ very, sad=2" the grammar with a reward of
            2 for these tokens, see `ProbabilisticAutomaton.tilted`.

    Raises:
        UserError: no such name, or no such file.
    """
    TEXT.check("the world", name)
    name, tilt, rewards = name.partition("^")
    if tilt:
        return _tilted(world(name), rewards)
    kind, at, file = name.partition("@")
    if kind == "ngram" and at:
        return _trigrams(name, file)
    kind, dash, operands = name.partition("-")
    if kind == "arithmetic" and dash and re.fullmatch("[0-9]{1,9}", operands):
        return arithmetic(int(operands))
    if name not in WORLDS:
        raise UserError(f"there is no world {name!r}: expected one of {', '.join(WORLDS)}, arithmetic-4, ngram@FILE")
    return WORLDS[name]()


def texts(
    automaton: ProbabilisticAutomaton,
    n: int,
    generator: Generator | int | None = None,
    length: int = DEFAULT_LENGTH,
) -> Iterator[str]:
    """Draw `n` texts from a world; they have `length` tokens where the world does not model lengths."""
    whole(1, MOST_TEXTS).check("n", n)
    if automaton.any_length:
        v = automaton.vocabulary
        row = torch.tensor([[v.bos, *[v.mask] * length, v.eos]])
        tokens = automaton.sample(Canvas.of(row, v.mask).repeat(n), seeded(generator)).tokens
    else:
        tokens = automaton.simulate(n, generator)
    for row in tokens.tolist():
        yield decode(automaton.tokenizer, row)


def _tilted(plain: ProbabilisticAutomaton, rewards: str) -> ProbabilisticAutomaton:
    """A world with a reward for some tokens, given as "abc=1" or as "one,two=1"."""
    symbols, _, nats = rewards.rpartition("=")
    if not symbols or not re.fullmatch(r"-?[0-9]{1,3}(\.[0-9]{1,9})?", nats):
        raise UserError(f"{rewards!r} tilts no world: expected symbols and what each is worth in nats, as in hmm^abc=1")
    whole = "," in symbols or symbols in plain.tokenizer.get_vocab()
    return plain.tilted(dict.fromkeys(symbols.split(",") if whole else symbols, float(nats)))


def _trigrams(name: str, file: str) -> ProbabilisticAutomaton:
    """Trigrams of the characters of a file; `name` is that of the world, in messages."""
    try:
        check_plain(Path(file), MOST_BYTES)
        documents = Path(file).read_text(encoding="utf-8").split(SEPARATOR)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the world {name!r} cannot be fitted: {file!r} is no text file ({error})") from error
    stripped = [text.strip() for text in documents if text.strip()]
    return ngram(stripped, symbol_tokenizer(sorted({*"".join(stripped), "."})), order=3)
