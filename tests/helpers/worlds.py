"""Small exact worlds, the enumerated posterior of a gap, and how near weighted samples are to it."""

import math
from itertools import product

import pytest
import torch

from textdiff.priors import DiffusionPrior
from textdiff.samplers import LeftToRight, Strided
from textdiff.worlds import hmm, ngram, table
from textdiff.worlds.symbols import symbol_tokenizer

STORIES = ["abc.", "abb.", "cab.", "ba.", "abcab.", "cc."]


def small_table():
    return table({"ab": 3.0, "ba": 1.0, "aab": 2.0, "abb": 1.5, "bbb": 0.5, "a": 1.0})


WORLDS = {
    "table": small_table,
    "hmm": lambda: hmm(states=3, symbols=3, seed=1, concentration=0.5),
    "unigram": lambda: ngram(STORIES, symbol_tokenizer("abc."), order=1),
    "bigram": lambda: ngram(STORIES, symbol_tokenizer("abc."), order=2),
    "trigram": lambda: ngram(STORIES, symbol_tokenizer("abc."), order=3),
}


def brute_force_prob(world, tokens):
    """Probability of one complete row: the sum over all paths, in plain Python."""
    v = world.vocabulary
    state = {0: 1.0}
    for token in tokens.tolist():
        if token in (v.pad, v.bos, v.null):
            continue
        after = {}
        if token == v.eos:
            after = {s: mass * float(world.stop[s]) for s, mass in state.items()}
        else:
            arcs = (world.source, world.token, world.target, world.weight)
            for source, emitted, target, weight in zip(*(column.tolist() for column in arcs), strict=True):
                if emitted == token and source in state:
                    after[target] = after.get(target, 0.0) + state[source] * weight
        state = after
    return sum(state.values())


def all_fills(world, canvas):
    """Every complete text of a one-row canvas: content, and null at the ends of gaps."""
    v = world.vocabulary
    content = world.token.unique().tolist()
    slots = canvas.slots[0].nonzero()[:, 0].tolist()
    rows = []
    for values in product([*content, v.null], repeat=len(slots)):
        row = canvas.tokens[0].clone()
        row[slots] = torch.tensor(values)
        good = True
        for gap in range(canvas.minimum.shape[1]):
            filled = row[canvas.gap[0] == gap] != v.null
            count = int(filled.sum())
            good &= bool(filled[:count].all()) and count >= int(canvas.minimum[0, gap])
        if good:
            rows.append(row)
    return torch.stack(rows)


def fine(world):
    """A perfect network at one token per step."""
    return DiffusionPrior(world, world.tokenizer, world.vocabulary, LeftToRight())


def coarse(world):
    """A perfect network that fills everything at once: wrong by the factorisation error."""
    return DiffusionPrior(world, world.tokenizer, world.vocabulary, Strided(1))


def enumerated(world, posterior, likelihood=None):
    """All fills that the world can write, and their exact posterior."""
    canvas = posterior.canvas
    if len(world.token.unique()) ** int(canvas.slots.sum()) < 10**6:
        rows = all_fills(world, canvas)
    else:  # the few that exact draws show, which are all of them if they have all the mass
        rows = world.sample(canvas.repeat(1000), torch.Generator().manual_seed(0)).tokens.unique(dim=0)
        assert float(world.log_prob(rows).logsumexp(0)) == pytest.approx(float(world.log_evidence(canvas)), abs=1e-9)
    mass = world.log_prob(rows)
    if likelihood is not None:
        mass = mass + likelihood(rows)
    rows, mass = rows[mass > -math.inf], mass[mass > -math.inf]
    return rows, mass.softmax(0), float(mass.logsumexp(0))


def noise(probs, draws):
    """The largest total variation of 100 sets of iid draws."""
    generator = torch.Generator().manual_seed(0)
    sets = torch.multinomial(probs, 100 * draws, replacement=True, generator=generator).view(100, draws)
    counts = torch.zeros(100, len(probs), dtype=torch.float64).scatter_add(1, sets, torch.ones_like(sets).double())
    return float((counts / draws - probs).abs().sum(dim=1).max() / 2)


def distance(found, rows, probs):
    """Total variation between weighted samples and `probs` of the `rows [rows, length]`."""
    matches = (found.tokens[:, None] == rows).all(dim=2).double()
    seen = found.weights @ matches
    return float((seen - probs).abs().sum() / 2) + float(1 - seen.sum()) / 2


def agrees(found, rows, probs):
    """Assert that weighted samples are as near to `probs [rows]` as iid draws of their effective sample size."""
    assert distance(found, rows, probs) < 1.1 * noise(probs, max(10, int(found.ess))) + 1e-9
