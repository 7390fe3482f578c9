"""Hard constraints on what a text or the fill of a gap may be; draws of a denoiser stay inside them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.evidence.evidence import Rule, Unfixed, Weightless
from textdiff.text import Canvas, TokenDFA
from textdiff.text.byte_dfa import literal

ANY = r"[\s\S]*"
OUTSIDE = "[^A-Za-z0-9_]"
"""What may stand beside a word."""


class Constraint(Weightless, Unfixed):
    """A rule that the fill of one gap, or the whole text, satisfies or not.

    Attributes:
        gap: number of the gap that is meant, from 0; None: the whole text, what is known of it included.
    """

    gap: int | None

    @abstractmethod
    def dfas(self, tokenizer: PreTrainedTokenizerBase, before: str, empty: bool) -> list[TokenDFA]:
        """Automata that must all accept.

        Args:
            tokenizer: of the texts.
            before: a blank that begins what is read and is not part of the fill, or nothing.
            empty: whether the gap may be empty.
        """

    def rules(self, canvas: Canvas, tokenizer: PreTrainedTokenizerBase) -> list[Rule]:
        """What is read of a canvas of one row, and by which automata.

        Raises:
            UserError: there is no such gap, or a pattern is malformed.
        """
        if self.gap is None:
            where, blank, empty = canvas.observed[0] | True, False, False
        else:
            gaps = canvas.minimum.shape[1]
            if not 0 <= self.gap < gaps:
                raise UserError(f"{self} is about gap {self.gap}, but there are {gaps}: count them from 0")
            where = canvas.gap[0] == self.gap
            blank = bool(canvas.word_start[0, where].any())
            empty = int(canvas.minimum[0, self.gap]) == 0
        return [(dfa, where) for dfa in self.dfas(tokenizer, " " * blank, empty)]


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

    def dfas(self, tokenizer: PreTrainedTokenizerBase, before: str, empty: bool) -> list[TokenDFA]:
        return [_after(before, self.pattern, tokenizer, empty)]

    def __str__(self) -> str:
        return f"the pattern {self.pattern!r}"


@final
@dataclass(frozen=True)
class Contains(Constraint):
    """Each of some words or phrases occurs, as whole words.

    Args:
        words: a word, or several; letters beside it are no part of it, capitals count.
        gap: see `Constraint`.

    Raises:
        UserError: no word, or an empty one.
    """

    words: str | Sequence[str]
    gap: int | None = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", _words(self.words))

    def dfas(self, tokenizer: PreTrainedTokenizerBase, before: str, empty: bool) -> list[TokenDFA]:
        return [TokenDFA.regex(_holding([word]), tokenizer) for word in self.words]

    def __str__(self) -> str:
        return f"contains {', '.join(map(repr, self.words))}"


@final
@dataclass(frozen=True)
class Excludes(Constraint):
    """None of some words or phrases occurs, as whole words; arguments as for `Contains`."""

    words: str | Sequence[str]
    gap: int | None = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", _words(self.words))

    def dfas(self, tokenizer: PreTrainedTokenizerBase, before: str, empty: bool) -> list[TokenDFA]:
        without = [~TokenDFA.regex(_holding([word]), tokenizer) for word in self.words]
        return [TokenDFA.regex(ANY, tokenizer), *without]

    def __str__(self) -> str:
        return f"excludes {', '.join(map(repr, self.words))}"


@final
@dataclass(frozen=True)
class Ordered(Constraint):
    """Some words or phrases occur one after the other, as whole words; arguments as for `Contains`."""

    words: str | Sequence[str]
    gap: int | None = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", _words(self.words))

    def dfas(self, tokenizer: PreTrainedTokenizerBase, before: str, empty: bool) -> list[TokenDFA]:
        return [TokenDFA.regex(_holding(self.words), tokenizer)]

    def __str__(self) -> str:
        return f"contains {', then '.join(map(repr, self.words))}"


@final
@dataclass(frozen=True)
class Length(Constraint):
    """So many tokens, words or characters; a number, or the least and the most: `Length(words=(3, 8))`.

    Args:
        tokens, words, characters: any of them; words are divided by white space.
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

    def dfas(self, tokenizer: PreTrainedTokenizerBase, before: str, empty: bool) -> list[TokenDFA]:
        found = []
        if isinstance(self.tokens, tuple):
            found.append(TokenDFA.counter(*self.tokens, tokenizer))
        if isinstance(self.words, tuple):
            least, most = self.words
            some = rf"\s*\S+(?:\s+\S+){{{max(least, 1) - 1},{most - 1}}}\s*" if most else r"\s*"
            found.append(_after(before, some if least or not most else rf"(?:{some})|\s*", tokenizer, empty))
        if isinstance(self.characters, tuple):
            least, most = self.characters
            found.append(_after(before, rf"[\s\S]{{{least},{most}}}", tokenizer, empty))
        return found

    def __str__(self) -> str:
        bounds = [(name, getattr(self, name)) for name in ("tokens", "words", "characters")]
        return " and ".join(f"{b[0]} to {b[1]} {name}" for name, b in bounds if b is not None)


def _words(words: str | Sequence[str]) -> tuple[str, ...]:
    found = (words,) if isinstance(words, str) else tuple(words)
    if not found or not all(isinstance(word, str) and word.strip() for word in found):
        raise UserError(f"the words are {words!r}: expected one or more, none of them empty")
    return tuple(word.strip() for word in found)


def _holding(words: Sequence[str]) -> str:
    """A pattern for texts in which whole words occur in this order."""
    between = f"{OUTSIDE}(?:{ANY}{OUTSIDE})?"
    return f"(?:{ANY}{OUTSIDE})?{between.join(map(literal, words))}(?:{OUTSIDE}{ANY})?"


def _after(before: str, pattern: str, tokenizer: PreTrainedTokenizerBase, empty: bool) -> TokenDFA:
    """What matches the pattern, behind a blank that is not part of the fill; an empty fill has none."""
    alone = TokenDFA.regex(pattern, tokenizer)
    if not before:
        return alone
    nothing = empty and bool(alone.accept[0])
    return TokenDFA.regex(f"(?:{before}(?:{pattern}))?" if nothing else f"{before}(?:{pattern})", tokenizer)
