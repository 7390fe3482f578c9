"""Held-out gaps: the items on which priors and samplers are compared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.data.corpus import Corpus
from textdiff.data.passages import passages
from textdiff.errors import UserError
from textdiff.text import Canvas, Vocabulary, encode

_BETWEEN_SENTENCES = re.compile(r"""(?<=[.!?])\s+|(?<=[.!?]["'”’)])\s+""")


class HeldOutGap(NamedTuple):
    """A text with one or more gaps cut into it.

    Attributes:
        canvas: one row; each gap has exactly the length of what was cut out.
        tokens: ids `[1, length]` of the text before the cut, those of the gaps included.
    """

    canvas: Canvas
    tokens: Tensor

    @classmethod
    def cut(cls, tokens: Tensor, starts: Sequence[int], length: int, mask: int) -> HeldOutGap:
        """Cut `length` tokens at each of `starts` out of a text `[1, length of the text]`; `mask` replaces them."""
        blank = tokens.clone()
        for start in starts:
            blank[:, start : start + length] = mask
        return cls(Canvas.of(blank, mask), tokens)

    def characters(self, vocabulary: Vocabulary) -> Tensor:
        """Number of characters that were cut out, `[1]`."""
        return (vocabulary.characters[self.tokens] * self.canvas.slots).sum(dim=1)

    def with_open_gaps(self, longest: int, vocabulary: Vocabulary) -> HeldOutGap:
        """The same gaps without their lengths: each may have 1 to `longest` tokens.

        Unused slots of the true text hold null; without such a token they hold padding, which no denoiser attends to.

        Raises:
            UserError: a gap is longer than `longest`, or there is neither token.
        """
        size = int(self.canvas.maximum.max())
        unused = vocabulary.pad if vocabulary.null is None else vocabulary.null
        if size > longest or unused is None:
            raise UserError(
                f"a gap of {size} tokens does not fit into {longest} slots, or the tokenizer has no null token"
            )
        tokens = self.canvas.with_added_slots(self.tokens, longest, unused)
        return HeldOutGap(self.canvas.with_open_gaps(longest), tokens)


def held_out_gaps(
    corpus: Corpus,
    vocabulary: Vocabulary,
    count: int,
    gap: int = 32,
    margin: int = 16,
    *,
    longest: int = 512,
    seed: int = 0,
) -> list[HeldOutGap]:
    """Cut one gap of known length into each of `count` documents.

    Documents are taken in order, those of at most `longest` tokens before the passages of longer ones (see
    `textdiff.data.passages`), and again from the start; the gap's place is uniform, at least `margin` tokens from both
    ends of the document, bos and eos counted. Deterministic given `seed`.

    Args:
        corpus: documents to cut into.
        vocabulary: special tokens.
        count: number of gaps.
        gap: tokens in a gap.
        margin: evidence on either side, at least, in tokens.
        longest: tokens that a text may have; longer documents are read in passages. Texts that are too short for gap
            and margins are passed over.
        seed: of the gaps' places.

    Returns:
        The gaps; none if no document is long enough.
    """
    texts = list(islice(_texts(corpus, vocabulary, gap + 2 * margin, longest), count))
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count if texts else 0):
        begin, end = texts[number % len(texts)]
        tokens = torch.from_numpy(corpus.tokens[begin:end].astype(np.int64))[None]
        start = int(rng.integers(margin, tokens.shape[1] - gap - margin + 1))
        found.append(HeldOutGap.cut(tokens, [start], gap, vocabulary.mask))
    return found


def held_out_texts(corpus: Corpus, vocabulary: Vocabulary, count: int, *, longest: int = 512) -> list[Tensor]:
    """At most `count` texts `[length]` of at most `longest` tokens, in the order of `held_out_gaps`."""
    spans = islice(_texts(corpus, vocabulary, 3, longest), count)
    return [torch.from_numpy(corpus.tokens[begin:end].astype(np.int64)) for begin, end in spans]


def _texts(corpus: Corpus, vocabulary: Vocabulary, shortest: int, longest: int) -> Iterator[tuple[int, int]]:
    """Where the texts of `shortest` to `longest` tokens are: whole documents, then passages of longer ones."""
    if shortest > longest:
        return
    lengths = np.diff(corpus.offsets)
    for document in np.flatnonzero((lengths >= shortest) & (lengths <= longest)):
        yield int(corpus.offsets[document]), int(corpus.offsets[document + 1])
    for document in np.flatnonzero(lengths > longest):
        begin, end = int(corpus.offsets[document]), int(corpus.offsets[document + 1])
        for start, stop in passages(corpus.tokens[begin:end], vocabulary, longest):
            if stop - start >= shortest:
                yield begin + start, begin + stop


def held_out_lengths(
    corpus: Corpus,
    vocabulary: Vocabulary,
    count: int,
    most: int,
    margin: int = 16,
    *,
    longest: int = 512,
    seed: int = 0,
) -> list[HeldOutGap]:
    """`held_out_gaps` whose lengths are uniform from 1 to `most`, one for each document in turn."""
    lengths = np.random.default_rng((seed, most)).integers(1, most + 1, count).tolist()
    by_length = {
        gap: held_out_gaps(corpus, vocabulary, count, gap, margin + most - gap, longest=longest, seed=seed)
        for gap in set(lengths)
    }
    return [by_length[gap][number] for number, gap in enumerate(lengths) if by_length[gap]]


def held_out_sentences(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: Vocabulary,
    count: int,
    which: int = 4,
    of: int = 5,
    *,
    longest: int = 512,
    longest_gap: int = 64,
) -> list[HeldOutGap]:
    """Cut one sentence out of the beginning of each text: the protocol of story infilling, sentence 4 of 5.

    Only the first `of` sentences of a text are kept, separated by blanks; the gap is sentence number `which`. A text of
    more than `longest` tokens is a text for every `of` sentences.

    Args:
        texts: stories, taken in order.
        tokenizer: text -> ids.
        vocabulary: special tokens.
        count: gaps that are wanted, each from a different story.
        which, of: the sentence that is cut out, and how many a text has.
        longest: tokens that a text may have.
        longest_gap: tokens that the sentence may have.

    Returns:
        At most `count` gaps. Texts with fewer sentences or too many tokens are passed over, and so are texts that have
        other tokens when they are tokenised piece by piece.
    """
    found: list[HeldOutGap] = []
    for sentences in chain.from_iterable(_in_sentences(text, tokenizer, of, longest) for text in texts):
        if len(found) == count:
            break
        if len(sentences) < of:
            continue
        before, behind = " ".join(sentences[: which - 1]), " ".join(sentences[which:])
        middle = f" {sentences[which - 1]}" if before else sentences[which - 1]
        parts = [before, middle, f" {behind}" if behind else ""]
        ids = [encode(tokenizer, part, continues=i > 0) for i, part in enumerate(parts)]
        whole = [*ids[0], *ids[1], *ids[2]]
        alike = whole == encode(tokenizer, " ".join(sentences))
        if not alike or not 0 < len(ids[1]) <= longest_gap or len(whole) + 2 > longest:
            continue
        tokens = torch.tensor([[vocabulary.bos, *whole, vocabulary.eos]])
        start = 1 + len(ids[0])
        item = HeldOutGap.cut(tokens, [start], len(ids[1]), vocabulary.mask)
        item.canvas.word_start[:, start] = bool(before)
        found.append(item)
    return found


def _in_sentences(text: str, tokenizer: PreTrainedTokenizerBase, of: int, longest: int) -> Iterator[list[str]]:
    """The first `of` sentences of a text; of a text that is too long all sentences, `of` at a time."""
    sentences = _BETWEEN_SENTENCES.split(text.strip())
    several = len(sentences) >= 2 * of and len(encode(tokenizer, text)) + 2 > longest
    for start in range(0, len(sentences) if several else 1, of):
        yield sentences[start : start + of]
