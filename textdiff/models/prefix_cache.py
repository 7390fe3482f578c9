"""Reads texts from left to right while they are being written."""

from __future__ import annotations

import torch
from torch import Tensor

from textdiff.models.cache import KeyValueCache
from textdiff.models.transformer import Transformer


class PrefixCache:
    """The last hidden state before any column of a batch of texts, read in pieces with a cache of keys and values.

    What is alike in all rows at the first reading, such as a prefix, is read once.

    Args:
        network: a causal transformer.
        tokens: ids `[batch, length]`; may be written to right of what has been read.
        real: bool `[batch, length]`, positions that hold text, likewise; the others are not read and take no position.
        positions: rotary positions `[batch, length]`; None: real tokens are counted.
    """

    def __init__(self, network: Transformer, tokens: Tensor, real: Tensor, positions: Tensor | None = None) -> None:
        self.network, self.tokens, self.real, self.read = network, tokens, real, 0
        self.positions = positions
        self._cache = KeyValueCache(tokens.shape[1])
        self._state = torch.zeros(len(tokens), network.config.hidden_size, dtype=network.dtype, device=tokens.device)

    def before(self, column: int) -> Tensor:
        """Hidden states `[batch, width]` of the last real token left of `column`, which grows from call to call."""
        if column > self.read:
            tokens, real = self.tokens[:, :column], self.real[:, :column]
            places = (real.cumsum(dim=1) - 1).clamp(min=0) if self.positions is None else self.positions[:, :column]
            if self.read == 0:
                all_, same = torch.cat((tokens, real.long(), places), dim=1).unique(dim=0, return_inverse=True)
                first, second, third = all_.split(column, dim=1)
                state = self._advance(first, second.bool(), third, self._state[: len(all_)])
                self._state, self._cache = state[same], self._cache.select(same)
            else:
                self._state = self._advance(tokens, real, places, self._state)
            self.read = column
        return self._state

    def select(self, rows: Tensor) -> None:
        """Go on from copies of some rows of the batch."""
        self.tokens, self.real, self._state = self.tokens[rows], self.real[rows], self._state[rows]
        self._cache = self._cache.select(rows)
        self.positions = None if self.positions is None else self.positions[rows]

    def _advance(self, tokens: Tensor, real: Tensor, positions: Tensor, state: Tensor) -> Tensor:
        """Read the rest of `tokens [rows, column]`."""
        new, column = slice(self.read, tokens.shape[1]), torch.arange(tokens.shape[1], device=tokens.device)
        visible = real[:, None] & (column <= column[new, None])
        states = self.network.hidden(tokens[:, new], visible, positions[:, new], self._cache)
        last = torch.where(real[:, new], torch.arange(states.shape[1], device=tokens.device), -1).amax(dim=1)
        rows = torch.arange(len(tokens), device=tokens.device)
        return torch.where(last[:, None] >= 0, states[rows, last], state)


def causal_layout(real: Tensor) -> tuple[Tensor, Tensor]:
    """Who looks at whom `[batch, length, length]` and rotary positions `[batch, length]` of the `real` tokens."""
    length = real.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=real.device).tril()
    return real[:, None] & earlier, (real.cumsum(dim=1) - 1).clamp(min=0)


def last_before(real: Tensor) -> Tensor:
    """The last real position left of each position, `[batch, length]`; -1 where there is none."""
    column = torch.where(real, torch.arange(real.shape[1], device=real.device), -1).cummax(dim=1).values
    return torch.nn.functional.pad(column, (1, 0), value=-1)[:, :-1]
