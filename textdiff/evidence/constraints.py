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
OUTSIDE = r"\W"
"""A character that ends a word."""
MOST = 2**14
"""Words, tokens or characters that are counted."""
MOST_WORDS = 2**12
"""Words or phrases that are looked for."""
MOST_CONTAINED = 12
"""Words that all have to occur, in any order; the states double with each."""


class Constraint(Evidence):
    """A condition that the fill of one gap, or the whole text, satisfies or not.

    Attributes:
        gap: number of the gap that is constrained, from 0; None: the whole text, known text included.
    """

    gap: int | None

    fixes = False
    weighs = False

    @abstractmethod
    def token_dfas(self, tokenizer: PreTrainedTokenizerBase, blank: bool, may_be_empty: bool) -> list[TokenDFA]:
        """Automata over the constrained tokens that must all accept.

        Args:
            tokenizer: of the texts.
            blank: whether the fill of the gap begins with a blank that is not constrained.
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
        return [(dfa, where) for dfa in self.token_dfas(tokenizer, blank, may_be_empty)]


@final
@dataclass(frozen=True)
class Regex(Constraint):
    """The fill matches a regular expression from beginning to end: `Regex(r"\\d{1,2}:\\d\\d")`.

    A pattern means what `re.fullmatch` means by it: character classes in Unicode (`\\w`, `\\d`, `\\s`), groups, lazy
    and greedy quantifiers, flags (`(?i)`, `(?a)`, `(?s)`, `(?m)`, `(?x)`), comments, and the anchors `^`, `$`, `\\A`,
    `\\Z`, `\\b` and `\\B` anywhere. Look-ahead, look-behind, back-references, conditional and atomic groups and
    possessive quantifiers are refused. The blank that a template has before a gap is not part of the fill.

    Args:
        pattern: the expression, of at most 65,536 characters; its automaton may take 16,384 states. `\\w` and words
            take about 300 of them at each place, most of them within characters of several bytes; `[A-Za-z]` takes 1.
        gap: see `Constraint`.

    Raises:
        UserError: the pattern is no text, or when it is used: it is malformed, has a construct that is refused, or
            takes too many states.
    """

    pattern: str
    gap: int | None = 0

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str):
            raise UserError(f"the pattern is {self.pattern!r}: expected a text")
        _check_gap(self.gap)

    def token_dfas(self, tokenizer: PreTrainedTokenizerBase, blank: bool, may_be_empty: bool) -> list[TokenDFA]:
        return [TokenDFA.regex(self.pattern, tokenizer, blank, may_be_empty)]

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
        object.__setattr__(self, "words", _words(self.words, MOST_CONTAINED))
        _check_gap(self.gap)

    def token_dfas(self, tokenizer: PreTrainedTokenizerBase, blank: bool, may_be_empty: bool) -> list[TokenDFA]:
        return [TokenDFA.regex(_around(literal(word)), tokenizer) for word in self.words]

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
        _check_gap(self.gap)

    def token_dfas(self, tokenizer: PreTrainedTokenizerBase, blank: bool, may_be_empty: bool) -> list[TokenDFA]:
        some = "|".join(map(literal, self.words))
        return [TokenDFA.regex(ANY, tokenizer), ~TokenDFA.regex(_around(f"(?:{some})"), tokenizer)]

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
        _check_gap(self.gap)

    def token_dfas(self, tokenizer: PreTrainedTokenizerBase, blank: bool, may_be_empty: bool) -> list[TokenDFA]:
        between = f"{OUTSIDE}(?:{ANY}{OUTSIDE})?"
        return [TokenDFA.regex(_around(between.join(map(literal, self.words))), tokenizer)]

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
            if bound is not None:
                object.__setattr__(self, name, _bounds(name, bound))
        _check_gap(self.gap)

    def token_dfas(self, tokenizer: PreTrainedTokenizerBase, blank: bool, may_be_empty: bool) -> list[TokenDFA]:
        dfas = []
        if isinstance(self.tokens, tuple):
            dfas.append(TokenDFA.counter(*self.tokens, tokenizer))
        if isinstance(self.words, tuple):
            least, most = self.words
            some = rf"\s*\S+(?:\s+\S+){{{max(least, 1) - 1},{most - 1}}}\s*" if most else r"\s*"
            some = some if least or not most else rf"(?:{some})|\s*"
            dfas.append(TokenDFA.regex(some, tokenizer, blank, may_be_empty))
        if isinstance(self.characters, tuple):
            least, most = self.characters
            dfas.append(TokenDFA.regex(rf"[\s\S]{{{least},{most}}}", tokenizer, blank, may_be_empty))
        return dfas

    def __str__(self) -> str:
        bounds = [(name, getattr(self, name)) for name in ("tokens", "words", "characters")]
        return " and ".join(f"{b[0]} to {b[1]} {name}" for name, b in bounds if b is not None)


def _check_gap(gap: object) -> None:
    if gap is not None and (isinstance(gap, bool) or not isinstance(gap, int)):
        raise UserError(f"gap is {gap!r}: expected the number of a gap, from 0, or None for the whole text")


def _bounds(name: str, bound: object) -> tuple[int, int]:
    """The least and the most, of one number or two."""
    pair = tuple(bound) if isinstance(bound, tuple | list) else (bound, bound)
    if not (len(pair) == 2 and all(isinstance(n, int) and not isinstance(n, bool) for n in pair)):
        raise UserError(f"{name} is {bound!r}: expected a number, or the least and the most")
    if not 0 <= pair[0] <= pair[1]:
        raise UserError(f"{name} is {bound!r}: expected a number from 0, or the least and the most, in this order")
    if pair[1] > MOST:
        raise UserError(f"{name} is {bound!r}: at most {MOST} are counted")
    return pair


def _words(words: str | Sequence[str], most: int = MOST_WORDS) -> tuple[str, ...]:
    if not isinstance(words, str | Sequence):
        raise UserError(f"the words are {words!r}: expected a text, or several")
    if not isinstance(words, str) and len(words) > most:
        raise UserError(f"{len(words)} words are asked for, at most {most} are looked for: give fewer")
    found = (words,) if isinstance(words, str) else tuple(words)
    if not found or not all(isinstance(word, str) and word.strip() for word in found):
        raise UserError(f"the words are {words!r}: expected one or more, none of them empty")
    return tuple(word.strip() for word in found)


def _around(phrase: str) -> str:
    """A pattern for texts in which something that matches a pattern stands between the edges of words."""
    return f"(?:{ANY}{OUTSIDE})?{phrase}(?:{OUTSIDE}{ANY})?"
