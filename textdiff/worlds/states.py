"""The states of an automaton that is given by a rule, found by exploring from its initial state."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from textdiff.errors import UserError

MOST_STATES = 2**20


def explore(
    ids: Mapping[str, int],
    start: Hashable,
    moves: Callable[[Any], tuple[Iterable[tuple[str, float, Hashable]], float]],
    name: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The arcs between all states that can be reached, breadth first; the initial state has number 0.

    Args:
        ids: id of each token by its literal text.
        start: the initial state.
        moves: state -> arcs (text of the token, probability, next state), and the probability of stopping.
        name: of the world, in messages.

    Returns:
        Source, token, target and weight of each arc `[arcs]`, and the probability of stopping in each state `[states]`.

    Raises:
        UserError: more than a million states.
    """
    number: dict[Hashable, int] = {start: 0}
    queue = [start]
    rows: list[tuple[int, int, int, float]] = []
    stop: list[float] = []
    for state in queue:
        arcs, ends = moves(state)
        stop.append(ends)
        for text, probability, after in arcs:
            if after not in number:
                number[after] = len(queue)
                queue.append(after)
                if len(queue) > MOST_STATES:
                    raise UserError(f"the world {name} has more than {MOST_STATES} states: make it smaller")
            rows.append((number[state], ids[text], number[after], probability))
    source, token, target, weight = zip(*rows, strict=True)
    return (
        torch.tensor(source),
        torch.tensor(token),
        torch.tensor(target),
        torch.tensor(weight, dtype=torch.float64),
        torch.tensor(stop, dtype=torch.float64),
    )
