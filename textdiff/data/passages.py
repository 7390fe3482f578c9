"""Passages: how a document that is longer than a model's context is read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from textdiff.data.corpus import Corpus
from textdiff.text import Vocabulary

_NEAR = 256
"""Tokens among which the end of a corpus looks for a border."""


def passages(document: NDArray[np.unsignedinteger], vocabulary: Vocabulary, longest: int) -> Iterator[tuple[int, int]]:
    """Cut a document into passages that hold each of its tokens once, in order.

    A passage ends at the best border in the second half of what fits: at a blank line, else at the end of a line that
    ends a sentence, of a line, of a sentence, or of a word, and at the last of those that are equally good. A document
    that fits is a passage. The last passage has at least a quarter of `longest` tokens, each other one at least half.
    Deterministic; reads the document piece by piece.

    Args:
        document: its ids `[length]`, bos and eos included; these stay in the first and the last passage.
        vocabulary: says where lines, sentences and words end.
        longest: tokens in a passage, at most; 4 or more.

    Yields:
        Start and stop of each passage.
    """
    start, end = 0, len(document)
    while end - start > longest:
        first, last = start + longest // 2, min(start + longest, end - longest // 4)
        quality = _borders(np.asarray(document[first - 2 : last + 1], dtype=np.int64), vocabulary)
        stop = last - int(quality[::-1].argmax())
        yield start, stop
        start = stop
    if end > start:
        yield start, end


def in_passages(corpus: Corpus, vocabulary: Vocabulary, longest: int) -> Corpus:
    """A corpus whose documents are the passages of another, see `passages`."""
    stops = [
        begin + stop
        for begin, end in zip(corpus.offsets[:-1].tolist(), corpus.offsets[1:].tolist(), strict=True)
        for _, stop in passages(corpus.tokens[begin:end], vocabulary, longest)
    ]
    return Corpus(corpus.tokens, np.asarray([corpus.offsets[0], *stops], dtype=np.int64))


def split(corpus: Corpus, vocabulary: Vocabulary, share: float = 0.05, most: int = 200_000) -> tuple[Corpus, Corpus]:
    """Part a corpus into its beginning, to train on, and its end, to be held out; no token is in both.

    The two are parted between documents; where no such border is near, as in a novel, within a document, at the best
    border of those that `passages` looks for. Deterministic.

    Args:
        corpus: documents, of 4 tokens at least.
        vocabulary: says where lines, sentences and words end.
        share: of the tokens that are held out, about.
        most: tokens that are held out, about; more would make each validation slow.
    """
    begin, end = int(corpus.offsets[0]), int(corpus.offsets[-1])
    size = max(1, min(most, round(share * (end - begin))))
    wanted = end - size
    between = corpus.offsets[1:-1]
    place = int(between[np.abs(between - wanted).argmin()]) if len(between) else begin
    if abs(place - wanted) > size / 2:
        first = max(begin + 2, wanted - _NEAR)
        quality = _borders(np.asarray(corpus.tokens[first - 2 : wanted + 1], dtype=np.int64), vocabulary)
        place = wanted - int(quality[::-1].argmax())
    before, after = corpus.offsets[corpus.offsets < place], corpus.offsets[corpus.offsets > place]
    return Corpus(corpus.tokens, np.append(before, place)), Corpus(corpus.tokens, np.append([place], after))


def _borders(ids: NDArray[np.int64], vocabulary: Vocabulary) -> NDArray[np.int64]:
    """How good a border there is before each of `ids [n]` but the first two, `[n - 2]`: from 0 to 5."""
    line, sentence = (flags.cpu().numpy()[ids] for flags in (vocabulary.breaks_line, vocabulary.ends_sentence))
    word = vocabulary.starts_word.cpu().numpy()[ids[2:]]
    ended = line[1:-1] & ~line[2:]  # the last of several newlines
    kinds = (
        word | line[1:-1],
        word & sentence[1:-1],
        ended,
        ended & (sentence[:-2] | sentence[1:-1]),
        ended & line[:-2],
    )
    quality = np.zeros(len(word), dtype=np.int64)
    for number, kind in enumerate(kinds, 1):
        quality[kind] = number
    return quality
