"""Hard constraints on the fill of a gap or on the whole text; a denoiser's draws can be made to satisfy them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.evidence.evidence import Evidence, PositionedDFA
from textdiff.text import Canvas, TokenDFA
from textdiff.text.byte_dfa import literal

ANY = r"[\s\S]*"
OUTSIDE = "[^A-Za-z0-9_]"
"""A character that ends a word."""


class Constraint(Evidence):
    """A condition that the fill of one gap, or the whole text, satisfies or not.

    Attributes:
        gap: number of the gap that is constrained, from 0; None: the whole text, known text included.
    """

    gap: int | None

    fixes = False
    weighs = False

    @abstractmethod
    def token_dfas(self, tokenizer: PreTrainedTokenizerBase, blank: str, may_be_empty: bool) -> list[TokenDFA]:
        """Automata over the constrained tokens that must all accept.

        Args:
            tokenizer: of the texts.
            blank: the blank with which the fill of the gap begins, and which is not constrained; or "".
            may_be_empty: whether the gap may be empty.
        """

    def dfas(self, canvas: Canvas, tokenizer: PreTrainedTokenizerBase) -> list[PositionedDFA]:
        """The automata, with the positions of the gap or of the whole canvas of one row.

        Raises:
            UserError: there is no such gap, or a pattern is malformed.
        """
        if self.gap is None:
            where, blank, may_be_empty = canvas.observed[0] | True, False, False
        else:
            gaps = canvas.minimum.shape[1]
            if not 0 <= self.gap < gaps:
                raise UserError(f"{self} is about gap {self.gap}, but there are {gaps}: count them from 0")
            where = canvas.gap[0] == self.gap
            blank = bool(canvas.word_start[0, where].any())
            may_be_empty = int(canvas.minimum[0, self.gap]) == 0
        return [(dfa, where) for dfa in self.token_dfas(tokenizer, " " * blank, may_be_empty)]


@final
@dataclass(frozen=True)
class Regex(Constraint):
    """The fill matches a regular expression from beginning to end: `Regex(r"\\d{1,2}:\\d\\d")`.

    Python's syntax without look-around and back references; `\\w`, `\\d` and `\\s` are ASCII. The blank that a template
    has before a gap is not part of the fill.

    Args:
        pattern: the expression.
        gap: see `Constraint`.
    """

    pattern: str
    gap: int | None = 0

    def token_dfas(self, tokenizer: PreTrainedTokenizerBase, blank: str, may_be_empty: bool) -> list[TokenDFA]:
        return [_after_blank(blank, self.pattern, tokenizer, may_be_empty)]

    def __str__(self) -> str:
        return f"the pattern {self.pattern!r}"


@final
@dataclass(frozen=True)
class Contains(Constraint):
    """Each of the given words or phrases occurs, as whole words.

    Args:
        words: a word or phrase, or several; matched as whole words, and upper case differs from lower case.
        gap: see `Constraint`.

    Raises:
        UserError: no word, or an empty one.
    """

    words: str | Sequence[str]
    gap: int | None = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", _words(self.words))

    def token_dfas(self, tokenizer: PreTrainedTokenizerBase, blank: str, may_be_empty: bool) -> list[TokenDFA]:
        return [TokenDFA.regex(_occurring([word]), tokenizer) for word in self.words]

    def __str__(self) -> str:
        return f"contains {', '.join(map(repr, self.words))}"


@final
@dataclass(frozen=True)
class Excludes(Constraint):
    """None of the given words or phrases occurs, as whole words; arguments as for `Contains`."""

    words: str | Sequence[str]
    gap: int | None = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", _words(self.words))

    def token_dfas(self, tokenizer: PreTrainedTokenizerBase, blank: str, may_be_empty: bool) -> list[TokenDFA]:
        without = [~TokenDFA.regex(_occurring([word]), tokenizer) for word in self.words]
        return [TokenDFA.regex(ANY, tokenizer), *without]

    def __str__(self) -> str:
        return f"excludes {', '.join(map(repr, self.words))}"


@final
@dataclass(frozen=True)
class Ordered(Constraint):
    """The given words or phrases occur in this order, as whole words; arguments as for `Contains`."""

    words: str | Sequence[str]
    gap: int | None = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", _words(self.words))

    def token_dfas(self, tokenizer: PreTrainedTokenizerBase, blank: str, may_be_empty: bool) -> list[TokenDFA]:
        return [TokenDFA.regex(_occurring(self.words), tokenizer)]

    def __str__(self) -> str:
        return f"contains {', then '.join(map(repr, self.words))}"


@final
@dataclass(frozen=True)
class Length(Constraint):
    """The number of tokens, words or characters lies within bounds: `Length(words=(3, 8))`.

    Args:
        tokens, words, characters: one or more of them, each a number, or the least and the most; words are separated by
            white space.
        gap: see `Constraint`.

    Raises:
        UserError: no bound, or one that nothing can satisfy.
    """

    tokens: int | tuple[int, int] | None = None
    words: int | tuple[int, int] | None = None
    characters: int | tuple[int, int] | None = None
    gap: int | None = 0

    def __post_init__(self) -> None:
        bounds = {name: getattr(self, name) for name in ("tokens", "words", "characters")}
        if all(bound is None for bound in bounds.values()):
            raise UserError("a length needs a bound: give tokens, words or characters")
        for name, bound in bounds.items():
            if isinstance(bound, int):
                bound = (bound, bound)
            if bound is not None and not (len(bound) == 2 and 0 <= bound[0] <= bound[1]):
                raise UserError(f"{name} is {bound}: expected a number, or the least and the most")
            object.__setattr__(self, name, bound)

    def token_dfas(self, tokenizer: PreTrainedTokenizerBase, blank: str, may_be_empty: bool) -> list[TokenDFA]:
        dfas = []
        if isinstance(self.tokens, tuple):
            dfas.append(TokenDFA.counter(*self.tokens, tokenizer))
        if isinstance(self.words, tuple):
            least, most = self.words
            some = rf"\s*\S+(?:\s+\S+){{{max(least, 1) - 1},{most - 1}}}\s*" if most else r"\s*"
            dfas.append(_after_blank(blank, some if least or not most else rf"(?:{some})|\s*", tokenizer, may_be_empty))
        if isinstance(self.characters, tuple):
            least, most = self.characters
            dfas.append(_after_blank(blank, rf"[\s\S]{{{least},{most}}}", tokenizer, may_be_empty))
        return dfas

    def __str__(self) -> str:
        bounds = [(name, getattr(self, name)) for name in ("tokens", "words", "characters")]
        return " and ".join(f"{b[0]} to {b[1]} {name}" for name, b in bounds if b is not None)


def _words(words: str | Sequence[str]) -> tuple[str, ...]:
    found = (words,) if isinstance(words, str) else tuple(words)
    if not found or not all(isinstance(word, str) and word.strip() for word in found):
        raise UserError(f"the words are {words!r}: expected one or more, none of them empty")
    return tuple(word.strip() for word in found)


def _occurring(words: Sequence[str]) -> str:
    """A pattern for texts in which whole words occur in this order."""
    between = f"{OUTSIDE}(?:{ANY}{OUTSIDE})?"
    return f"(?:{ANY}{OUTSIDE})?{between.join(map(literal, words))}(?:{OUTSIDE}{ANY})?"


def _after_blank(blank: str, pattern: str, tokenizer: PreTrainedTokenizerBase, may_be_empty: bool) -> TokenDFA:
    """The automaton of fills that match the pattern after their blank; an empty fill has no blank."""
    alone = TokenDFA.regex(pattern, tokenizer)
    if not blank:
        return alone
    optional = may_be_empty and bool(alone.accept[0])
    return TokenDFA.regex(f"(?:{blank}(?:{pattern}))?" if optional else f"{blank}(?:{pattern})", tokenizer)
