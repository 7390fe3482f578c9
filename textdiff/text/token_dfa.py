"""Deterministic finite automata over token ids: the token sequences that a pattern or a count allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.text.byte_dfa import byte_dfa
from textdiff.text.partition import Table, distances, equivalent, mixed_bits
from textdiff.text.vocabulary import token_bytes

MOST_TOKENS = 2**14
"""That are counted."""
MOST_ENTRIES = 2**22
"""Of a table of the next state of each state after a token of each class."""
MOST_PAIRS = 2**26
"""Of a state and a token that may follow there."""
CHUNK = 2**21
"""Pairs of which the next states are found at once."""


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
    def regex(
        cls, pattern: str, tokenizer: PreTrainedTokenizerBase, blank: bool = False, may_be_empty: bool = False
    ) -> TokenDFA:
        """The automaton of texts that match a regular expression as a whole, as `re.fullmatch` says.

        Args:
            pattern: in the syntax of Python.
            tokenizer: of the texts.
            blank: the texts begin with a blank that is not part of the match.
            may_be_empty: and the empty text is accepted without a blank if it matches.

        Raises:
            UserError: a malformed pattern, one with a construct that no automaton follows, or one that takes too large
                an automaton.
        """
        return _compiled(pattern, tokenizer, blank, may_be_empty)

    @classmethod
    def counter(cls, minimum: int, maximum: int | None, tokenizer: PreTrainedTokenizerBase) -> TokenDFA:
        """The automaton of texts of `minimum` to `maximum` tokens; None: there is no maximum.

        Raises:
            UserError: there are too many to count.
        """
        most = minimum if maximum is None else maximum + 1
        if most > MOST_TOKENS:
            raise UserError(f"up to {most} tokens cannot be counted, at most {MOST_TOKENS} are: ask for fewer")
        contents = token_bytes(tokenizer)
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

    @cached_property
    def hopeless(self) -> Tensor:
        """The states from which nothing is accepted, bool `[states]`."""
        return torch.from_numpy(distances(self.step.numpy().astype(np.int32), self.accept.numpy()) < 0)

    def minimal(self) -> TokenDFA:
        """The smallest automaton that accepts the same texts: equivalent states, and equivalent tokens, are merged."""
        reached = torch.zeros(self.states, dtype=torch.bool)
        frontier = torch.zeros(1, dtype=torch.long)
        while len(frontier):
            reached[frontier] = True
            after = self.step[frontier].unique()
            frontier = after[~reached[after]]
        rank = reached.cumsum(0) - 1
        step, accept = rank[self.step[reached]], self.accept[reached]
        block = equivalent(step.numpy().astype(np.int32), accept.numpy())
        first = np.unique(block, return_index=True)[1]
        order = np.sort(first)  # state 0 comes first
        number = torch.from_numpy(np.argsort(np.argsort(first)))[torch.from_numpy(block)]
        columns, classes = number[step[order]].unique(dim=1, return_inverse=True)
        return TokenDFA(columns, classes[self.classes], accept[order])


@lru_cache(maxsize=256)
def _compiled(pattern: str, tokenizer: PreTrainedTokenizerBase, blank: bool, may_be_empty: bool) -> TokenDFA:
    table, accept = byte_dfa(pattern, blank, may_be_empty)
    contents = _spelling(tokenizer)
    hashes: dict[int, int] = {}
    classes = np.zeros(len(contents), dtype=np.int64)
    columns = [np.arange(len(table), dtype=np.int32)]  # class 0: what has no text leaves a state as it is
    for tokens, source, target in _pairs(pattern, table, contents):
        token, of_pair = np.unique(tokens, return_inverse=True)
        sums = np.zeros(len(token), dtype=np.uint64)
        lives = target != 1
        pairs = source.astype(np.int64) * len(table) + target
        np.add.at(sums, of_pair[lives], mixed_bits(pairs[lives]))
        start = np.searchsorted(of_pair, np.arange(len(token) + 1))
        for i, key in enumerate(sums.tolist()):
            if key not in hashes:
                hashes[key] = len(columns)
                column = np.ones(len(table), dtype=np.int32)
                column[source[start[i] : start[i + 1]]] = target[start[i] : start[i + 1]]
                columns.append(column)
                if len(columns) * len(table) > MOST_ENTRIES:
                    raise _too_large(pattern)
            classes[token[i]] = hashes[key]
    step = np.stack(columns, axis=1).astype(np.int64)
    return TokenDFA(torch.from_numpy(step), torch.from_numpy(classes), torch.from_numpy(accept)).minimal()


def _pairs(
    pattern: str, table: Table, contents: list[bytes]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]]:
    """Tokens in ascending order, states in which they may follow, and the states to which they lead, in chunks.

    A token that may follow nowhere has one pair, which leads from state 1 to itself.
    """
    sources = [(table[:, byte] != 1).nonzero()[0] for byte in range(256)]
    sources = [states if len(states) else np.ones(1, dtype=np.int64) for states in sources]
    spelled = [token for token, content in enumerate(contents) if content]
    sizes = np.array([len(sources[contents[token][0]]) for token in spelled])
    if sizes.sum() > MOST_PAIRS:
        raise _too_large(pattern)
    parts = np.searchsorted(sizes.cumsum() // CHUNK, np.arange(sizes.sum() // CHUNK + 2))
    for begin, end in zip(parts[:-1].tolist(), parts[1:].tolist(), strict=True):
        if begin == end:
            continue
        some = spelled[begin:end]
        longest = max(len(contents[token]) for token in some)
        letters = np.full((len(some), longest + 1), 256, dtype=np.int16)
        for row, token in zip(letters, some, strict=True):
            row[: len(contents[token])] = list(contents[token])
        of_token = np.repeat(np.arange(len(some)), sizes[begin:end])
        source = np.concatenate([sources[contents[token][0]] for token in some])
        target = source.astype(np.int32)
        going = np.arange(len(target))
        for column in letters.T:
            byte = column[of_token[going]]
            going, byte = going[byte < 256], byte[byte < 256]
            target[going] = table[target[going], byte]
            going = going[target[going] != 1]
        yield np.array(some)[of_token], source, target


def _too_large(pattern: str) -> UserError:
    return UserError(
        f"the pattern {pattern!r} takes too large an automaton for this vocabulary: ask for fewer or "
        "shorter repetitions"
    )


@lru_cache(maxsize=8)
def _spelling(tokenizer: PreTrainedTokenizerBase) -> list[bytes]:
    """The bytes of each token, b"" for those without text."""
    return [content or b"" for content in token_bytes(tokenizer)]
