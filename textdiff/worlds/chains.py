"""Worlds that are Markov chains: hidden Markov models, noisy random walks, and n-grams fitted to texts."""

from __future__ import annotations

import string
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.files.fields import PROBABILITY, check_fields, number, whole
from textdiff.posterior.samples import SEED
from textdiff.text import Vocabulary, encode
from textdiff.worlds.automaton import ProbabilisticAutomaton
from textdiff.worlds.symbols import symbol_tokenizer

MOST_ARCS = 2**24

CHARACTERS = string.ascii_lowercase + ".,;:!?" + string.ascii_uppercase + string.digits
"""Symbols of the hidden Markov models."""


def hmm(states: int = 8, symbols: int = 32, seed: int = 0, concentration: float = 0.15) -> ProbabilisticAutomaton:
    """A hidden Markov model with Dirichlet transitions and emissions; the length of a text is given, not modelled.

    Symbols are single characters. The initial state follows the stationary distribution.

    Args:
        states, symbols: number of states, and of symbols.
        seed: of the random probabilities.
        concentration: of both Dirichlet distributions; the smaller, the more predictable the texts.

    Raises:
        UserError: more symbols than there are characters for.
    """
    fields = {"states": whole(1, 2**10), "symbols": whole(1, len(CHARACTERS)), "seed": SEED}
    fields |= {"concentration": number(lambda value: value > 0, "a number above 0")}
    check_fields({"states": states, "symbols": symbols, "seed": seed, "concentration": concentration}, fields)
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.full(states, concentration), size=states)
    emission = rng.dirichlet(np.full(symbols, concentration), size=states)
    stationary = np.linalg.matrix_power(transition, 4096).mean(axis=0)
    stationary /= stationary.sum()
    return _chain(stationary, transition, emission, f"hmm of {states} states and {symbols} symbols")


def walk(places: int = 16, noise: float = 0.2) -> ProbabilisticAutomaton:
    """A random walk on a ring with noisy symbols: a hidden Markov model with dependence over long distances.

    Each step leads one place to the left or to the right; the symbol is that of the place, or with probability `noise`
    a random one. A fill has to end next to the place where the text after the gap begins, which the text before the gap
    does not determine.

    Args:
        places: number of places on the ring, 3 to 68.
        noise: share of random symbols.

    Raises:
        UserError: a number out of range.
    """
    fields = {"places": whole(3, len(CHARACTERS)), "noise": PROBABILITY}
    check_fields({"places": places, "noise": noise}, fields)
    here = np.eye(places)
    beside = (np.roll(here, 1, axis=1) + np.roll(here, -1, axis=1)) / 2
    emission = (1 - noise) * here + noise / places
    return _chain(np.full(places, 1 / places), beside, emission, f"walk on a ring of {places} places")


def _chain(
    initial: NDArray[np.float64], transition: NDArray[np.float64], emission: NDArray[np.float64], name: str
) -> ProbabilisticAutomaton:
    """The automaton of a hidden Markov model: initial `[states]`, transition and emission probabilities."""
    states, symbols = emission.shape
    tokenizer = symbol_tokenizer(list(dict.fromkeys([*CHARACTERS[:symbols], "."])))
    ids = np.asarray([tokenizer.get_vocab()[symbol] for symbol in CHARACTERS[:symbols]])
    steps = np.concatenate((initial[None], transition))[:, :, None] * emission  # state 0 is before the first symbol
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

    p(w | h) = (c(h w) + t(h) p(w | h')) / (c(h) + t(h)), where t(h) is the number of distinct tokens after h, and h'
    is h without its first token. Below the unigrams all tokens of the texts are equally likely. The end of a text
    counts as a token.

    Args:
        texts: the training texts.
        tokenizer: encodes them; the tokens that occur are those of the model.
        order: 1 for independent tokens, 2 for a Markov chain, ...

    Raises:
        UserError: no text, an order below 1, or too many contexts.
    """
    whole(1, 24).check("order", order)
    rows = [encode(tokenizer, text) for text in texts]
    tokens = sorted({token for row in rows for token in row})
    if not tokens:
        raise UserError(f"an n-gram of order {order} on {len(rows)} texts: expected some text")
    size = len(tokens) + 1  # symbol 0 is bos before a text and eos after it
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
    probs: NDArray[np.float64] = np.full(size, 1 / size)
    for lower in reversed(range(order)):  # histories of 0, 1, ..., order - 1 tokens
        seen = counts.sum(axis=tuple(range(lower))) if lower else counts
        kinds = (seen > 0).sum(axis=-1, keepdims=True)
        total = seen.sum(axis=-1, keepdims=True)
        probs = np.where(total > 0, (seen + kinds * probs) / np.maximum(total + kinds, 1), probs)
    contexts = size ** (order - 1)
    probs = probs.reshape(contexts, size)
    pairs = np.indices((contexts, size - 1)).reshape(2, -1)
    source, symbol = pairs[0], pairs[1] + 1
    return ProbabilisticAutomaton(
        tokenizer,
        Vocabulary.of(tokenizer),
        torch.from_numpy(source),
        torch.tensor([0, *tokens])[torch.from_numpy(symbol)],
        torch.from_numpy((source * size + symbol) % contexts),
        torch.from_numpy(probs[:, 1:].reshape(-1).copy()),
        torch.from_numpy(probs[:, 0].copy()),
        f"{order}-gram of {len(tokens)} tokens",
    )
