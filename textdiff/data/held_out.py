"""Held-out gaps: the test items on which priors and samplers are compared."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.data.corpus import Corpus
from textdiff.text import Canvas, Vocabulary, encode

_BETWEEN_SENTENCES = re.compile(r"""(?<=[.!?])\s+|(?<=[.!?]["'”’)])\s+""")


def held_out_gaps(
    corpus: Corpus,
    vocabulary: Vocabulary,
    count: int,
    gap: int = 32,
    margin: int = 16,
    longest: int = 512,
    seed: int = 0,
) -> list[tuple[Canvas, Tensor]]:
    """Cut one gap of known length into each of `count` documents.

    Documents are taken in order and again from the start; the gap's place is uniform, at least `margin` tokens from
    both ends of the document, bos and eos counted. Deterministic given `seed`.

    Args:
        corpus: documents to cut into.
        vocabulary: special tokens.
        count: number of gaps.
        gap: tokens in a gap.
        margin: evidence on either side, at least, in tokens.
        longest: longer documents, and those too short for gap and margins, are passed over.
        seed: of the gaps' places.

    Returns:
        For each gap its canvas (one row) and the true ids `[1, length]`; empty if no document is long enough.
    """
    lengths = np.diff(corpus.offsets)
    fit = np.flatnonzero((lengths >= gap + 2 * margin) & (lengths <= longest))
    rng = np.random.default_rng(seed)
    found = []
    for document in np.resize(fit, count if len(fit) else 0):
        tokens = torch.from_numpy(corpus[int(document)])[None]
        start = int(rng.integers(margin, tokens.shape[1] - gap - margin + 1))
        blank = tokens.clone()
        blank[:, start : start + gap] = vocabulary.mask
        found.append((Canvas.of(blank, vocabulary.mask), tokens))
    return found


def held_out_lengths(
    corpus: Corpus,
    vocabulary: Vocabulary,
    count: int,
    most: int,
    margin: int = 16,
    longest: int = 512,
    seed: int = 0,
) -> list[tuple[Canvas, Tensor]]:
    """`held_out_gaps` of lengths that are uniform from 1 to `most`, one for each document in turn."""
    lengths = np.random.default_rng((seed, most)).integers(1, most + 1, count).tolist()
    by_length = {
        gap: held_out_gaps(corpus, vocabulary, count, gap, margin + most - gap, longest, seed) for gap in set(lengths)
    }
    return [by_length[gap][number] for number, gap in enumerate(lengths) if by_length[gap]]


def held_out_sentences(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: Vocabulary,
    count: int,
    which: int = 4,
    of: int = 5,
    longest: int = 512,
    longest_gap: int = 64,
) -> list[tuple[Canvas, Tensor]]:
    """Cut one sentence out of the beginning of each text: the protocol of story infilling, sentence 4 of 5.

    The first `of` sentences of a text stand alone, joined by blanks; the gap is sentence number `which`.

    Args:
        texts: stories, taken in order.
        tokenizer: text -> ids.
        vocabulary: special tokens.
        count: gaps that are wanted, each from a story of its own.
        which, of: the sentence that is cut out, and how many a text has; later ones are dropped.
        longest, longest_gap: texts, and texts with sentences, that have more tokens are passed over, as are texts with
            fewer sentences, and those that read differently when they are tokenised piece by piece.

    Returns:
        At most `count` canvases (one row) with the true ids `[1, length]`.
    """
    found: list[tuple[Canvas, Tensor]] = []
    for text in texts:
        sentences = _BETWEEN_SENTENCES.split(text.strip())[:of]
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
        blank, start = tokens.clone(), 1 + len(ids[0])
        blank[:, start : start + len(ids[1])] = vocabulary.mask
        canvas = Canvas.of(blank, vocabulary.mask)
        canvas.word_start[:, start] = bool(before)
        found.append((canvas, tokens))
    return found
