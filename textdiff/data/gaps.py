"""Held-out gaps: the test items on which priors and samplers are compared."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from textdiff.data.corpus import Corpus
from textdiff.text import Canvas, Vocabulary


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
