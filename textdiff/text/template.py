r"""Templates: text with gaps, `"Lily lost her ball. [gap] She was happy."`, to a canvas and back.

`[gap]` is a gap of the default length, `[gap:12]` of exactly 12 tokens, `[gap:4-16]` of 4 to 16; `\[gap]` is the text
"[gap]", and other backslashes right before a marker are doubled (`\\[gap]` is one backslash and a gap).

Blanks. In most tokenizers a word's token includes the blank before the word. So one blank (U+0020) right before a
marker belongs to the fill: it is taken from the known text, and the fill's first token must begin with it. A blank
after the marker stays with the text after it. Without a blank before the marker the fill may begin inside a word
(`un[gap]ing`). A newline before a marker stays known text, because a word at the start of a line has no blank.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.files.fields import MOST, TEXT, Field, instance, whole
from textdiff.text.canvas import Canvas
from textdiff.text.tokenizer import decode, decode_each, encode

MOST_SLOTS = 2**16
"""Of all gaps of a template, each at its maximum. What a model has room for is less, and checked when it is known."""

_MARKER = re.compile(r"\[gap\b(?P<length>[^\[\]\\]{0,20})\]?")
_LENGTH = re.compile(r":\s*([0-9]{1,6})\s*(?:-\s*([0-9]{1,6})\s*)?")
_WHOLE = whole(-MOST)
"""Any whole number: whether it can be the length of a gap has a message of its own."""


@dataclass(frozen=True)
class Gap:
    """A gap of `minimum` to `maximum` tokens, both included; a minimum of 0 allows the empty fill.

    Raises:
        UserError: unless 0 <= minimum <= maximum and maximum >= 1.
    """

    minimum: int
    maximum: int

    def __post_init__(self) -> None:
        for name in ("minimum", "maximum"):
            _WHOLE.check(f"the {name} of a gap", getattr(self, name))
        if not 0 <= self.minimum <= self.maximum or self.maximum < 1:
            raise UserError(
                f"a gap cannot have {self.minimum} to {self.maximum} tokens: "
                "the least must not exceed the most, and the most must be 1 or more."
            )

    def __str__(self) -> str:
        return f"[gap:{self.minimum}]" if self.minimum == self.maximum else f"[gap:{self.minimum}-{self.maximum}]"


DEFAULT_GAP = Gap(1, 32)

_PARTS = Field(
    lambda value: isinstance(value, tuple) and all(isinstance(part, str | Gap) and part != "" for part in value),
    "expected a tuple of texts, none of them empty, and gaps",
)


@dataclass(frozen=True)
class Filled:
    """A template with its gaps filled.

    Attributes:
        text: the whole text.
        fills: the text of each gap, without the blank that the template has before it.
    """

    text: str
    fills: tuple[str, ...]


@dataclass(frozen=True)
class Template:
    """Known texts (none empty) and gaps in reading order; `str(template)` parses to the template again.

    Raises:
        UserError: empty text, no gap, two gaps with nothing between them, gaps of more than 65,536 tokens in all, or
            text that is not Unicode.
    """

    parts: tuple[str | Gap, ...]

    def __post_init__(self) -> None:
        _PARTS.check("parts", self.parts)
        if not any(isinstance(part, Gap) or part.strip() for part in self.parts):
            raise UserError("the text is empty: write some, with [gap] where text is missing.")
        if not self.gaps:
            raise UserError("the text has no gap: write [gap] where text is missing.")
        if any(isinstance(part, Gap) and isinstance(after, Gap) for part, after in pairwise(self.parts)):
            raise UserError("two gaps have nothing between them: make them one, or write text between them.")
        _check_slots(self.slots)
        try:
            for part in self.parts:
                _ = part.encode() if isinstance(part, str) else None
        except UnicodeEncodeError as error:
            raise UserError(f"the text is not valid Unicode ({error.reason}): give it as UTF-8.") from error

    @classmethod
    def parse(cls, text: str, default: Gap = DEFAULT_GAP) -> Template:
        """Parse text with gap markers; `default` is the length of a plain `[gap]`.

        Raises:
            UserError: a malformed marker, or anything that a template cannot be.
        """
        TEXT.check("the text", text)
        instance(Gap, "a Gap").check("default", default)
        parts: list[str | Gap] = []
        literal, end, slots = list[str](), 0, 0
        for match in _MARKER.finditer(text):
            between = text[end : match.start()]
            plain = between.rstrip("\\")
            slashes, escaped = divmod(len(between) - len(plain), 2)
            literal += [plain, "\\" * slashes]
            end = match.end()
            if escaped:
                literal.append(match[0])
            else:
                gap = _gap(match[0], match["length"], default)
                _check_slots(slots := slots + gap.maximum)
                parts += ["".join(literal), gap]
                literal = []
        return cls(tuple(part for part in [*parts, "".join([*literal, text[end:]])] if part != ""))

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The gaps in reading order."""
        return tuple(part for part in self.parts if isinstance(part, Gap))

    @property
    def slots(self) -> int:
        """Tokens that the gaps have room for, each gap at its maximum."""
        return sum(gap.maximum for gap in self.gaps)

    @property
    def characters(self) -> int:
        """Length of the known texts."""
        return sum(len(part) for part in self.parts if isinstance(part, str))

    def encode(self, tokenizer: PreTrainedTokenizerBase) -> Canvas:
        """The template as a canvas of one row: bos, the parts, eos; each known text is tokenised by itself.

        Args:
            tokenizer: has the five special tokens (`with_special_tokens`).
        """
        slots: list[tuple[int, int, bool]] = [(tokenizer.bos_token_id, -1, False)]
        number = 0
        for i, (part, owns_blank) in enumerate(self._pieces()):
            if isinstance(part, Gap):
                slots += [(tokenizer.mask_token_id, number, owns_blank and j == 0) for j in range(part.maximum)]
                number += 1
            else:
                slots += [(token, -1, False) for token in encode(tokenizer, part, continues=i > 0)]
        slots.append((tokenizer.eos_token_id, -1, False))
        tokens, gap, word_start = (torch.tensor([column]) for column in zip(*slots, strict=True))
        return Canvas(tokens, gap < 0, gap, torch.tensor([[gap.minimum for gap in self.gaps]]), word_start)

    def decode(self, tokenizer: PreTrainedTokenizerBase, tokens: Tensor) -> Filled:
        """The text of one complete row; `decode_rows` decodes many without encoding the template for each.

        Args:
            tokenizer: the one of `encode`.
            tokens: `[length]`, the row of `encode(tokenizer)` with its slots filled; padding on the right is ignored.

        Raises:
            ValueError: the row is too short, or a slot still holds the mask token.
        """
        return self.decode_rows(tokenizer, self.encode(tokenizer), tokens[None])[0]

    def decode_rows(self, tokenizer: PreTrainedTokenizerBase, canvas: Canvas, tokens: Tensor) -> tuple[Filled, ...]:
        """The texts of complete rows.

        Known text comes out as it was typed, whatever the tokenizer does to it; null tokens are dropped.

        Args:
            tokenizer: the one of `encode`.
            canvas: what `encode(tokenizer)` returned.
            tokens: `[batch, length]`, rows of the canvas with all slots filled; padding on the right is ignored.

        Raises:
            ValueError: the rows are too short, or a slot still holds the mask token.
        """
        gap = canvas.gap[0].cpu()
        rows = tokens[:, : len(gap)].cpu()
        if rows.shape[1] < len(gap) or (rows[:, gap >= 0] == tokenizer.mask_token_id).any():
            raise ValueError(
                f"expected rows of {len(gap)} tokens with every slot filled, got {rows.tolist()}: sample first"
            )
        pieces = list(self._pieces())
        columns: list[list[str]] = []
        for i, (part, _) in enumerate(pieces):
            if isinstance(part, Gap):
                fills = rows[:, gap == len(columns)].tolist()
                columns.append(decode_each(tokenizer, fills, continues=i > 0))
        return tuple(_filled(pieces, fills) for fills in zip(*columns, strict=True))

    def __str__(self) -> str:
        written = []
        for part, after in zip(self.parts, (*self.parts[1:], ""), strict=True):
            if isinstance(part, str):
                part = re.sub(r"(?<!\\)(\\*)(\[gap\b)", r"\1\1\\\2", part)
                part += part[len(part.rstrip("\\")) :] if isinstance(after, Gap) else ""
            written.append(str(part))
        return "".join(written)

    def _pieces(self) -> Iterator[tuple[str | Gap, bool]]:
        """The parts without the blanks that belong to fills, and for each gap whether its fill begins with a blank."""
        for before, part, after in zip(("", *self.parts), self.parts, (*self.parts[1:], ""), strict=False):
            if isinstance(part, Gap):
                yield part, isinstance(before, str) and before.endswith(" ")
            else:
                yield part.removesuffix(" ") if isinstance(after, Gap) else part, False


def _filled(pieces: Sequence[tuple[str | Gap, bool]], fills: Sequence[str]) -> Filled:
    """The pieces of a template with the decoded fills in the places of the gaps."""
    text, remaining, shown = list[str](), iter(fills), list[str]()
    for part, owns_blank in pieces:
        if isinstance(part, Gap):
            fill = next(remaining)
            shown.append(fill.removeprefix(" ") if owns_blank else fill)
            text.append(fill)
        else:
            text.append(part)
    return Filled("".join(text), tuple(shown))


def decode_rows(tokenizer: PreTrainedTokenizerBase, canvas: Canvas, tokens: Tensor) -> tuple[Filled, ...]:
    """The texts of complete rows `[batch, length]` of a canvas that was made without a template.

    Both the whole text and the fills are what the tokenizer decodes: known text may differ from what was encoded, and a
    fill keeps the blank that it begins with.
    """
    gaps = range(canvas.minimum.shape[1])
    filled = []
    for row, gap in zip(tokens.tolist(), canvas.gap.tolist(), strict=True):
        fills = [[token for token, of in zip(row, gap, strict=True) if of == number] for number in gaps]
        filled.append(Filled(decode(tokenizer, row), tuple(decode_each(tokenizer, fills, continues=True))))
    return tuple(filled)


def _check_slots(slots: int) -> None:
    if slots > MOST_SLOTS:
        raise UserError(
            f"the gaps have room for {slots} tokens or more, at most {MOST_SLOTS} are allowed: shorten them, e.g. "
            "[gap:1-16]"
        )


def _gap(marker: str, length: str, default: Gap) -> Gap:
    match = _LENGTH.fullmatch(length)
    if not marker.endswith("]") or (length and not match):
        raise UserError(
            f"malformed gap marker {marker!r}: expected [gap], [gap:12] or [gap:4-16]; write \\[gap for literal text."
        )
    return Gap(int(match[1]), int(match[2] or match[1])) if match else default
