"""Equivalent states of deterministic automata, and states from which nothing is accepted."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.int32]
"""The next state of each state after each symbol, `[states, symbols]`."""

MOST_ROUNDS = 100


def distances(step: Table, accept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The length of the shortest sequence that is accepted from each state, -1 where there is none."""
    ordered = np.sort(step, axis=1)
    fresh = np.ones(ordered.shape, dtype=bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    sources: dict[int, list[int]] = defaultdict(list)
    for source, target in zip(fresh.nonzero()[0].tolist(), ordered[fresh].tolist(), strict=True):
        sources[target].append(source)
    found = np.where(accept, 0, -1).tolist()
    queue = accept.nonzero()[0].tolist()
    for state in queue:
        for source in sources[state]:
            if found[source] < 0:
                found[source] = found[state] + 1
                queue.append(source)
    return np.array(found, dtype=np.int64)


def equivalent(step: Table, accept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A number for each state; states share it if the same sequences are accepted from them.

    Where that takes more than `MOST_ROUNDS` rounds of refinement, each state has its own number.
    """
    random = np.random.default_rng(0)
    marks = random.integers(2**62, size=step.shape[1] + 1, dtype=np.uint64) | np.uint64(1)
    both = np.stack((distances(step, accept), distances(step, ~accept)), axis=1)
    block = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)
    for _ in range(MOST_ROUNDS):
        mixed = random.integers(2**62, size=int(block.max()) + 1, dtype=np.uint64)[block]
        hashes = (mixed[step] * marks[:-1]).sum(axis=1, dtype=np.uint64) + mixed * marks[-1]
        finer = np.unique(hashes, return_inverse=True)[1]
        if finer.max() == block.max():
            return block
        block = finer
    return np.arange(len(step))


def mixed_bits(values: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Hashes of numbers; sums of them collide with a probability of 2^-60 or so (the finalizer of splitmix64)."""
    mixed = (values.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
