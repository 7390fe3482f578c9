"""Deterministic finite automata over token ids: the token sequences that a pattern or a count allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.text.byte_dfa import byte_dfa
from textdiff.text.vocabulary import token_bytes

MOST_STATES = 4096


@dataclass(frozen=True, eq=False)
class TokenDFA:
    """A complete deterministic finite automaton over token ids; state 0 is the initial state.

    Tokens that lead to the same state from every state share a class. Special tokens have no text, so they do not
    change the state.

    Attributes:
        step: `[states, classes]` long, the state after a token of each class.
        classes: `[vocab]` long, the class of each token.
        accept: `[states]` bool, the accepting states.
    """

    step: Tensor
    classes: Tensor
    accept: Tensor

    @classmethod
    def regex(cls, pattern: str, tokenizer: PreTrainedTokenizerBase) -> TokenDFA:
        """The automaton of texts that match a regular expression as a whole.

        The syntax is that of Python; `\\w` and `\\s` are ASCII.

        Raises:
            UserError: a malformed pattern, or one that needs more than 4,096 states.
        """
        return _compiled(pattern, tokenizer)

    @classmethod
    def counter(cls, minimum: int, maximum: int | None, tokenizer: PreTrainedTokenizerBase) -> TokenDFA:
        """The automaton of texts of `minimum` to `maximum` tokens; None: there is no maximum."""
        contents = token_bytes(tokenizer)
        most = minimum if maximum is None else maximum + 1
        stay = torch.arange(most + 1)
        accept = (stay >= minimum) & (stay <= (most if maximum is None else maximum))
        step = torch.stack((stay, (stay + 1).clamp(max=most)), dim=1)
        return cls(step, torch.tensor([int(content is not None) for content in contents]), accept)

    def __invert__(self) -> TokenDFA:
        """The complement: the automaton of the texts that this one rejects."""
        return TokenDFA(self.step, self.classes, ~self.accept)

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.accept)

    def minimal(self) -> TokenDFA:
        """The smallest automaton that accepts the same texts: equivalent states, and equivalent tokens, are merged."""
        block = self.accept.long()
        while True:
            signature = torch.cat((block[:, None], block[self.step]), dim=1)
            finer = signature.unique(dim=0, return_inverse=True)[1]
            if int(finer.max()) == int(block.max()):
                break
            block = finer
        order = torch.full((int(block.max()) + 1,), self.states).scatter_reduce(
            0, block, torch.arange(self.states), "amin"
        )
        rank = order.argsort().argsort()  # the block of state 0 comes first
        kept = order.sort().values
        columns, classes = rank[block[self.step[kept]]].unique(dim=1, return_inverse=True)
        return TokenDFA(columns, classes[self.classes], self.accept[kept])


@dataclass(frozen=True, eq=False)
class ProductDFA:
    """The intersection of several automata, each of which takes the tokens of some positions of a canvas.

    Positions that the same automata take are of one kind.

    Attributes:
        step: `[kinds, states, classes]` long: the state after a token at a position of each kind.
        classes: `[vocab]` long, the class of each token.
        kind: `[length]` long, the kind of each position; -1 where no automaton takes the token.
        accept: `[states]` bool, the accepting states.
        description: what the constraints ask for, in messages.
    """

    step: Tensor
    classes: Tensor
    kind: Tensor
    accept: Tensor
    description: str

    @classmethod
    def of(cls, parts: Sequence[tuple[TokenDFA, Tensor]], description: str) -> ProductDFA:
        """The product of automata, each with the positions whose tokens it takes, bool `[length]`.

        Raises:
            UserError: more than 4,096 states.
        """
        joint, classes = torch.stack([dfa.classes for dfa, _ in parts]).unique(dim=1, return_inverse=True)
        takes = torch.stack([positions for _, positions in parts])
        kinds, kind = takes.unique(dim=1, return_inverse=True)
        steps = [dfa.step[:, column] for (dfa, _), column in zip(parts, joint, strict=True)]
        number = {start: 0} if (start := (0,) * len(parts)) else {}
        queue, rows = [start], []
        for states in queue:
            row = []
            for kind_of in kinds.T:
                moved = [
                    step[state] if moves else torch.full_like(step[state], state)
                    for step, state, moves in zip(steps, states, kind_of.tolist(), strict=True)
                ]
                following = [tuple(after) for after in torch.stack(moved, dim=1).tolist()]
                for after in following:
                    if after not in number:
                        number[after] = len(queue)
                        queue.append(after)
                if len(queue) > MOST_STATES:
                    raise UserError(f"the constraints together take more than {MOST_STATES} states: {description}")
                row.append([number[after] for after in following])
            rows.append(row)
        accept = [all(bool(dfa.accept[s]) for (dfa, _), s in zip(parts, states, strict=True)) for states in queue]
        kind = torch.where(takes.any(dim=0), kind, -1)
        return cls(torch.tensor(rows).transpose(0, 1).contiguous(), classes, kind, torch.tensor(accept), description)

    def to(self, device: torch.device | str) -> ProductDFA:
        """The same automaton on `device`."""
        step, classes, kind, accept = (x.to(device) for x in (self.step, self.classes, self.kind, self.accept))
        return ProductDFA(step, classes, kind, accept, self.description)

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.accept)

    def accepts(self, tokens: Tensor) -> Tensor:
        """Whether complete texts `[n, length]` are allowed, bool `[n]`."""
        state = tokens.new_zeros(len(tokens))
        for j in (self.kind >= 0).nonzero()[:, 0].tolist():
            state = self.step[self.kind[j], state, self.classes[tokens[:, j]]]
        return self.accept[state]


@lru_cache(maxsize=256)
def _compiled(pattern: str, tokenizer: PreTrainedTokenizerBase) -> TokenDFA:
    contents = token_bytes(tokenizer)
    table, accept = byte_dfa(pattern)
    if len(table) > MOST_STATES:
        raise UserError(f"the pattern {pattern!r} takes {len(table)} states, at most {MOST_STATES} are taken")
    longest = max(len(content or b"") for content in contents)
    letters = np.full((len(contents), longest), 256)  # "byte" 256 leaves a state as it is
    for token, content in enumerate(contents):
        letters[token, : len(content or b"")] = list(content or b"")
    table = np.concatenate((table, np.arange(len(table))[:, None]), axis=1)
    state = np.repeat(np.arange(len(table))[:, None], len(contents), axis=1)
    for column in letters.T:
        state = table[state, column]
    step, classes = torch.from_numpy(state).unique(dim=1, return_inverse=True)
    return TokenDFA(step, classes, torch.from_numpy(accept)).minimal()
