"""Worlds whose posterior is exactly known: tables, n-grams, hidden Markov models, walks; and all worlds by name."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.posterior.samples import seeded
from textdiff.text import Canvas, Vocabulary, decode, encode
from textdiff.worlds.automaton import ProbabilisticAutomaton, symbol_tokenizer
from textdiff.worlds.sentences import arithmetic, grammar

MOST_ARCS = 2**24

CHARACTERS = string.ascii_lowercase + ".,;:!?" + string.ascii_uppercase + string.digits
"""Symbols of the hidden Markov models."""


def table(texts: Mapping[str, float], tokenizer: PreTrainedTokenizerBase | None = None) -> ProbabilisticAutomaton:
    """A law given text by text.

    Args:
        texts: each text with its weight, above 0; normalised here.
        tokenizer: cuts them into tokens; by default one token for each character.

    Raises:
        UserError: no text, or a weight that is not above 0.
    """
    if not texts or min(texts.values()) <= 0:
        raise UserError("a table needs texts with weights above 0")
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
        arcs = [(names[long[-1]], mass[long] / mass[prefix], long) for long in after.get(prefix, [])]
        return arcs, rows.get(prefix, 0.0) / mass[prefix]

    return ProbabilisticAutomaton.build(tokenizer, (), moves, "table")


def hmm(states: int = 8, symbols: int = 32, seed: int = 0, concentration: float = 0.15) -> ProbabilisticAutomaton:
    """A hidden Markov model with Dirichlet transitions and emissions; the length of a text is given, not modelled.

    Symbols are single characters. It begins in the stationary law of its states.

    Args:
        states, symbols: how many.
        seed: of its probabilities.
        concentration: of both Dirichlet laws; the smaller, the more predictable.

    Raises:
        UserError: more symbols than there are characters for.
    """
    if not 1 <= symbols <= len(CHARACTERS) or states < 1:
        raise UserError(f"hmm of {states} states and {symbols} symbols: expected 1 to {len(CHARACTERS)} symbols")
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.full(states, concentration), size=states)
    emission = rng.dirichlet(np.full(symbols, concentration), size=states)
    stationary = np.linalg.matrix_power(transition, 4096).mean(axis=0)
    stationary /= stationary.sum()
    return _chain(stationary, transition, emission, f"hmm of {states} states and {symbols} symbols")


def walk(places: int = 16, noise: float = 0.2) -> ProbabilisticAutomaton:
    """A random walk on a ring, seen through noise: a hidden Markov model in which evidence binds from far away.

    Each step goes one place to the left or to the right; the symbol is that of the place, or with probability `noise`
    any. A walk has to arrive where the text after a gap begins, which from before it nobody can tell.

    Args:
        places: on the ring, 3 to 68.
        noise: share of symbols that say nothing.

    Raises:
        UserError: a number out of range.
    """
    if not 3 <= places <= len(CHARACTERS) or not 0 <= noise <= 1:
        raise UserError(f"walk({places}, {noise}): expected 3 to {len(CHARACTERS)} places, and a share as noise")
    here = np.eye(places)
    beside = (np.roll(here, 1, axis=1) + np.roll(here, -1, axis=1)) / 2
    emission = (1 - noise) * here + noise / places
    return _chain(np.full(places, 1 / places), beside, emission, f"walk on a ring of {places} places")


def _chain(
    begin: NDArray[np.float64], transition: NDArray[np.float64], emission: NDArray[np.float64], name: str
) -> ProbabilisticAutomaton:
    """A hidden Markov model by its tables, `[states]`, `[states, states]` and `[states, symbols]`."""
    states, symbols = emission.shape
    tokenizer = symbol_tokenizer(list(dict.fromkeys([*CHARACTERS[:symbols], "."])))
    ids = np.asarray([tokenizer.get_vocab()[symbol] for symbol in CHARACTERS[:symbols]])
    steps = np.concatenate((begin[None], transition))[:, :, None] * emission  # state 0 stands before the text
    source, target, symbol = np.nonzero(steps)
    return ProbabilisticAutomaton(
        tokenizer,
        Vocabulary.of(tokenizer),
        torch.from_numpy(source),
        torch.from_numpy(ids[symbol]),
        torch.from_numpy(target + 1),
        torch.from_numpy(steps[source, target, symbol]),
        torch.ones(states + 1, dtype=torch.float64),
        name,
    )


def ngram(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, order: int = 2) -> ProbabilisticAutomaton:
    """An n-gram model fitted to texts with Witten-Bell smoothing (Witten and Bell 1991) of all lower orders.

    p(w | h) = (c(h w) + t(h) p(w | h')) / (c(h) + t(h)), where t(h) counts the kinds of tokens seen after h, h' is h
    without its first token, and at the bottom all tokens of the texts are equally likely. The end of a text is an event
    like the others.

    Args:
        texts: to fit to.
        tokenizer: cuts them into tokens; those that occur make up the model's vocabulary.
        order: 1 for independent tokens, 2 for a Markov chain, ...

    Raises:
        UserError: no text, an order below 1, or too many contexts.
    """
    rows = [encode(tokenizer, text) for text in texts]
    tokens = sorted({token for row in rows for token in row})
    if order < 1 or not tokens:
        raise UserError(f"an n-gram of order {order} on {len(rows)} texts: expected an order of 1 or more, and text")
    size = len(tokens) + 1  # symbol 0 stands before a text as bos and after it as eos
    if size**order > MOST_ARCS:
        raise UserError(
            f"order {order} over {len(tokens)} kinds of tokens needs {size**order:.1e} arcs, at most {MOST_ARCS:.1e} "
            "are taken: lower the order, or take a tokenizer with a smaller vocabulary"
        )
    number = {token: i for i, token in enumerate(tokens, 1)}
    counts = np.zeros((size,) * order)
    for row in rows:
        symbols = [0] * (order - 1) + [number[token] for token in row] + [0]
        events = np.lib.stride_tricks.sliding_window_view(np.asarray(symbols), order)
        np.add.at(counts, tuple(events.T), 1)
    law: np.ndarray[Any, Any] = np.full(size, 1 / size)
    for lower in reversed(range(order)):  # histories of 0, 1, ..., order - 1 tokens
        seen = counts.sum(axis=tuple(range(lower))) if lower else counts
        kinds = (seen > 0).sum(axis=-1, keepdims=True)
        total = seen.sum(axis=-1, keepdims=True)
        law = np.where(total > 0, (seen + kinds * law) / np.maximum(total + kinds, 1), law)
    contexts = size ** (order - 1)
    law = law.reshape(contexts, size)
    pairs = np.indices((contexts, size - 1)).reshape(2, -1)
    source, symbol = pairs[0], pairs[1] + 1
    return ProbabilisticAutomaton(
        tokenizer,
        Vocabulary.of(tokenizer),
        torch.from_numpy(source),
        torch.tensor([0, *tokens])[torch.from_numpy(symbol)],
        torch.from_numpy((source * size + symbol) % contexts),
        torch.from_numpy(law[:, 1:].reshape(-1).copy()),
        torch.from_numpy(law[:, 0].copy()),
        f"{order}-gram of {len(tokens)} tokens",
    )


def integers(skew: float = 0.9) -> ProbabilisticAutomaton:
    """The numbers from 0 to 100 between a hash and a full stop: "#42." is `skew`^42 times as likely as "#0."."""
    return table({f"#{number}.": skew**number for number in range(101)})


def modes(worth: float = 0.0) -> ProbabilisticAutomaton:
    """Six letters from a to e with 25 modes: a pair of letters three times over, as in "#ababab.".

    Args:
        worth: nats that nine of the modes are worth more than the others, in which they stand apart: `NINE`.
    """
    pairs = (one + other for one in "abcde" for other in "abcde")
    return table({f"#{3 * pair}.": math.exp(worth * (3 * pair in NINE)) for pair in pairs})


NINE = tuple(3 * pair for pair in ("aa", "ac", "ae", "ca", "cc", "ce", "ea", "ec", "ee"))
"""Modes that `modes` can prefer."""


HMM_LENGTH = 64
"""Symbols in a text of `texts`, where a world does not say how long its texts are."""


def texts(
    law: ProbabilisticAutomaton, n: int, generator: Generator | int | None = None, length: int = HMM_LENGTH
) -> Iterator[str]:
    """`n` texts that a world writes; of `length` tokens where the world gives no law of lengths."""
    if law.any_length:
        v = law.vocabulary
        row = torch.tensor([[v.bos, *[v.mask] * length, v.eos]])
        tokens = law.sample(Canvas.of(row, v.mask).repeat(n), seeded(generator)).tokens
    else:
        tokens = law.simulate(n, generator)
    for row in tokens.tolist():
        yield decode(law.tokenizer, row)


WORLDS: dict[str, Callable[[], ProbabilisticAutomaton]] = {
    "hmm": hmm,
    "walk": walk,
    "grammar": grammar,
    "arithmetic": arithmetic,
    "integers": integers,
    "integers-alike": partial(integers, skew=1.0),
    "modes": modes,
    "modes-9": partial(modes, worth=5.0),
}

SEPARATOR = "<|endoftext|>"
"""Ends a document in a file of texts."""


def world(name: str) -> ProbabilisticAutomaton:
    """A world by its name, with its defaults.

    Args:
        name: "hmm", "walk", "grammar", "arithmetic" (of 3 operands; "arithmetic-4" has 4), or "ngram@FILE": trigrams of
            the characters of a text file whose documents end with `<|endoftext|>`. "hmm^aeiou=0.5" is the world "hmm"
            in which each of these symbols is worth 0.5 nats, and "grammar^ very, told=2" one in which these tokens are
            worth 2, see `ProbabilisticAutomaton.tilted`.

    Raises:
        UserError: no such name, or no such file.
    """
    name, tilt, worth = name.partition("^")
    if tilt:
        symbols, _, nats = worth.rpartition("=")
        if not symbols or not re.fullmatch(r"-?\d+(\.\d+)?", nats):
            raise UserError(
                f"{worth!r} tilts no world: expected symbols and what each is worth in nats, as in hmm^abc=1"
            )
        plain = world(name)
        known = "," in symbols or symbols in plain.tokenizer.get_vocab()
        return plain.tilted(dict.fromkeys(symbols.split(",") if known else symbols, float(nats)))
    kind, at, file = name.partition("@")
    if kind == "ngram" and at:
        try:
            documents = Path(file).read_text(encoding="utf-8").split(SEPARATOR)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"the world {name!r} cannot be fitted: {file!r} is no text file ({error})") from error
        written = [text.strip() for text in documents if text.strip()]
        return ngram(written, symbol_tokenizer(sorted({*"".join(written), "."})), order=3)
    kind, dash, operands = name.partition("-")
    if kind == "arithmetic" and dash and operands.isdecimal():
        return arithmetic(int(operands))
    if name not in WORLDS:
        raise UserError(f"there is no world {name!r}: expected one of {', '.join(WORLDS)}, arithmetic-4, ngram@FILE")
    return WORLDS[name]()
