"""Incremental hidden states of a causal network, for decoding a batch of texts from left to right."""

from __future__ import annotations

import torch
from torch import Tensor

from textdiff.models.cache import KeyValueCache
from textdiff.models.transformer import Transformer


class PrefixCache:
    """The hidden states that predict any column of a batch of texts, computed from cached keys and values.

    What all rows have in common in the first call, such as a prefix, is computed once.

    Args:
        network: a causal transformer.
        tokens: ids `[batch, length]`; columns that have not been processed yet may be changed in place.
        real: bool `[batch, length]`, positions that hold text, likewise; the others are skipped and take no position.
        positions: rotary positions `[batch, length]`; None: real tokens are counted.
    """

    def __init__(self, network: Transformer, tokens: Tensor, real: Tensor, positions: Tensor | None = None) -> None:
        self.network, self.tokens, self.real, self.positions = network, tokens, real, positions
        self._processed = 0  # columns
        self._cache = KeyValueCache(tokens.shape[1])
        self._state = torch.zeros(len(tokens), network.config.hidden_size, dtype=network.dtype, device=tokens.device)

    def state_before(self, column: int) -> Tensor:
        """Hidden states `[batch, width]` of the last real token left of `column`, which grows from call to call."""
        if column > self._processed:
            tokens, real = self.tokens[:, :column], self.real[:, :column]
            positions = (real.cumsum(dim=1) - 1).clamp(min=0) if self.positions is None else self.positions[:, :column]
            if self._processed == 0:
                rows, same = torch.cat((tokens, real.long(), positions), dim=1).unique(dim=0, return_inverse=True)
                distinct, text, places = rows.split(column, dim=1)
                state = self._advance(distinct, text.bool(), places, self._state[: len(rows)])
                self._state, self._cache = state[same], self._cache.select(same)
            else:
                self._state = self._advance(tokens, real, positions, self._state)
            self._processed = column
        return self._state

    def select(self, rows: Tensor) -> None:
        """Replace the batch by copies of some of its rows, in that order."""
        self.tokens, self.real, self._state = self.tokens[rows], self.real[rows], self._state[rows]
        self._cache = self._cache.select(rows)
        self.positions = None if self.positions is None else self.positions[rows]

    def _advance(self, tokens: Tensor, real: Tensor, positions: Tensor, state: Tensor) -> Tensor:
        """Process the new columns of `tokens [rows, column]`; `state` stays where a row has no new token."""
        new, column = slice(self._processed, tokens.shape[1]), torch.arange(tokens.shape[1], device=tokens.device)
        visible = real[:, None] & (column <= column[new, None])
        states = self.network.hidden(tokens[:, new], visible, positions[:, new], self._cache)
        last = torch.where(real[:, new], torch.arange(states.shape[1], device=tokens.device), -1).amax(dim=1)
        rows = torch.arange(len(tokens), device=tokens.device)
        return torch.where(last[:, None] >= 0, states[rows, last], state)
