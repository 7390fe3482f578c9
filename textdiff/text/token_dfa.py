"""Deterministic automata over tokens: which token sequences a pattern or a rule about a text allows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.text.vocabulary import token_bytes

MOST_STATES = 4096

Pending = tuple[bytes, int, int, int]
"""A character that has begun: its bytes, if a pattern names one that begins so; how many are missing; and the bounds of
the next."""

WHOLE: Pending = (b"", 0, 0, 0)


@dataclass(frozen=True, eq=False)
class TokenDFA:
    """A complete deterministic automaton over token ids; it begins in state 0.

    Tokens that no state tells apart are of one class. Special tokens write nothing, so they leave the state as it is.

    Attributes:
        step: `[states, classes]` long, the state after a token of each class.
        classes: `[vocab]` long, the class of each token.
        accept: `[states]` bool, where a text may end.
    """

    step: Tensor
    classes: Tensor
    accept: Tensor

    @classmethod
    def regex(cls, pattern: str, tokenizer: PreTrainedTokenizerBase) -> TokenDFA:
        """Texts that match a regular expression from beginning to end, in Python's syntax with ASCII `\\w` and `\\s`.

        Raises:
            UserError: a malformed pattern, or one that takes more than 4,096 states.
        """
        return _compiled(pattern, tokenizer)

    @classmethod
    def counter(cls, minimum: int, maximum: int | None, tokenizer: PreTrainedTokenizerBase) -> TokenDFA:
        """Texts of `minimum` to `maximum` tokens; without a maximum of any number above."""
        contents = token_bytes(tokenizer)
        most = minimum if maximum is None else maximum + 1
        stay = torch.arange(most + 1)
        accept = (stay >= minimum) & (stay <= (most if maximum is None else maximum))
        step = torch.stack((stay, (stay + 1).clamp(max=most)), dim=1)
        return cls(step, torch.tensor([int(content is not None) for content in contents]), accept)

    def __invert__(self) -> TokenDFA:
        """The texts that this one rejects."""
        return TokenDFA(self.step, self.classes, ~self.accept)

    @property
    def states(self) -> int:
        """How many states."""
        return len(self.accept)

    def minimal(self) -> TokenDFA:
        """The smallest machine that allows the same texts: states and tokens that act alike become one."""
        block = self.accept.long()
        while True:
            looks = torch.cat((block[:, None], block[self.step]), dim=1)
            finer = looks.unique(dim=0, return_inverse=True)[1]
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
    """Machines that read a canvas together, each some of its positions; the texts that all of them allow.

    Attributes:
        step: `[kinds, states, classes]` long: the state after a token, at a position of each kind.
        classes: `[vocab]` long.
        kind: `[length]` long, the kind of each position, by which machines read it; -1 where none does.
        accept: `[states]` bool.
        words: what is asked for, as told to users.
    """

    step: Tensor
    classes: Tensor
    kind: Tensor
    accept: Tensor
    words: str

    @classmethod
    def of(cls, parts: Sequence[tuple[TokenDFA, Tensor]], words: str) -> ProductDFA:
        """The product of machines, each with the positions that it reads, bool `[length]`.

        Raises:
            UserError: more than 4,096 states.
        """
        joint, classes = torch.stack([dfa.classes for dfa, _ in parts]).unique(dim=1, return_inverse=True)
        reads = torch.stack([read for _, read in parts])
        kinds, kind = reads.unique(dim=1, return_inverse=True)
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
                    raise UserError(f"the constraints together take more than {MOST_STATES} states: {words}")
                row.append([number[after] for after in following])
            rows.append(row)
        accept = [all(bool(m.accept[s]) for (m, _), s in zip(parts, states, strict=True)) for states in queue]
        kind = torch.where(reads.any(dim=0), kind, -1)
        return cls(torch.tensor(rows).transpose(0, 1).contiguous(), classes, kind, torch.tensor(accept), words)

    def to(self, device: torch.device | str) -> ProductDFA:
        """The same lattice on `device`."""
        step, classes, kind, accept = (x.to(device) for x in (self.step, self.classes, self.kind, self.accept))
        return ProductDFA(step, classes, kind, accept, self.words)

    @property
    def states(self) -> int:
        """How many states."""
        return len(self.accept)

    def accepts(self, tokens: Tensor) -> Tensor:
        """Whether complete texts `[n, length]` are allowed, bool `[n]`."""
        state = tokens.new_zeros(len(tokens))
        for j in (self.kind >= 0).nonzero()[:, 0].tolist():
            state = self.step[self.kind[j], state, self.classes[tokens[:, j]]]
        return self.accept[state]


def literal(text: str) -> str:
    """A pattern that matches exactly this text."""
    return re.sub(r"([^A-Za-z0-9_\s])", lambda found: f"\\{found[0]}" if found[0].isascii() else found[0], text)


@lru_cache(maxsize=256)
def _compiled(pattern: str, tokenizer: PreTrainedTokenizerBase) -> TokenDFA:
    contents = token_bytes(tokenizer)
    table, accept = _over_bytes(pattern)
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


def _over_bytes(pattern: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """A regular expression as a complete automaton over UTF-8 bytes: `[states, 256]`, and where it accepts.

    A state is one of the automaton over characters, and what is there of a character whose bytes have not all come,
    see `Pending`.
    """
    import interegular
    from interegular.fsm import anything_else

    try:
        fsm = interegular.parse_pattern(pattern).to_fsm()
    except Exception as error:  # its parser raises what it likes
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{pattern!r} is no regular expression that can be used here ({reason}): check brackets and escapes"
        ) from error
    named = {str(char).encode(): key for char, key in fsm.alphabet.items() if char is not anything_else}
    other = fsm.alphabet[anything_else]
    begun = {char[:end] for char in named for end in range(1, len(char))}
    dead: tuple[Any, Pending] = (None, WHOLE)
    number: dict[tuple[Any, Pending], int] = {(fsm.initial, WHOLE): 0, dead: 1}
    queue: list[tuple[Any, Pending]] = list(number)
    rows = []
    for state, pending in queue:
        row = []
        for byte in range(256):
            after = dead if state is None else _next(fsm.map.get(state, {}), pending, byte, named, other, begun, state)
            if after not in number:
                number[after] = len(queue)
                queue.append(after)
            row.append(number[after])
        rows.append(row)
    accept = [pending == WHOLE and state in fsm.finals for state, pending in queue]
    return np.array(rows), np.array(accept)


def _next(
    arcs: Mapping[Any, Any],
    pending: Pending,
    byte: int,
    named: Mapping[bytes, Any],
    other: Any,
    begun: set[bytes],
    state: Any,
) -> tuple[Any, Pending]:
    """Where a byte leads from a state over characters and the beginning of one."""
    seen = pending[0] + bytes([byte])
    if seen in named and (pending == WHOLE or pending[0]):
        return (arcs[named[seen]], WHOLE) if named[seen] in arcs else (None, WHOLE)
    missing, low, high = _lead(byte) if pending == WHOLE else (pending[1] - 1, 0x80, 0xBF)
    if missing < 0 or (pending != WHOLE and not pending[2] <= byte <= pending[3]):
        return None, WHOLE
    if missing:
        return state, (seen if seen in begun else b"", missing, low, high)
    return (arcs[other], WHOLE) if other in arcs else (None, WHOLE)


def _lead(byte: int) -> tuple[int, int, int]:
    """How many bytes follow the first byte of a character, and the bounds of the next (RFC 3629); -1: it is none."""
    if byte < 0x80:
        return 0, 0, 0
    if not 0xC2 <= byte <= 0xF4:
        return -1, 0, 0
    low = {0xE0: 0xA0, 0xF0: 0x90}.get(byte, 0x80)
    high = {0xED: 0x9F, 0xF4: 0x8F}.get(byte, 0xBF)
    return 1 + (byte >= 0xE0) + (byte >= 0xF0), low, high
