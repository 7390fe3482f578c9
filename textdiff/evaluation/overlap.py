"""Overlap of a fill with the author's words, and of fills with one another: n-gram scores between 0 and 1.

Words are separated by blanks. A single reference rewards the likeliest fill and not the posterior: consider these
scores together with a likelihood.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

EPSILON = 0.1
"""Matches that are assumed of an n-gram order without any (smoothing method 1 of Chen and Cherry 2014)."""


def sentence_bleu(candidate: str, reference: str, order: int = 4) -> float:
    """BLEU of one sentence with smoothing method 1; 0 if no word is shared (Papineni et al. 2002)."""
    ours, theirs = candidate.split(), reference.split()
    total = 0.0
    for n in range(1, order + 1):
        grams = _grams(ours, n)
        matches = (grams & _grams(theirs, n)).total()
        if n == 1 and not matches:
            return 0.0
        total += math.log((matches or EPSILON) / max(1, grams.total())) / order
    short = 0.0 if len(ours) > len(theirs) else 1 - len(theirs) / len(ours)
    return math.exp(total + short)


def sentence_gleu(candidate: str, reference: str, order: int = 4) -> float:
    """GLEU: shared n-grams of 1 to `order` words over those of the longer side (arXiv:1609.08144, section 5.2)."""
    ours, theirs = (
        sum((_grams(text.split(), n) for n in range(1, order + 1)), Counter()) for text in (candidate, reference)
    )
    return (ours & theirs).total() / max(1, ours.total(), theirs.total())


def rouge_l(candidate: str, reference: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004)."""
    ours, theirs = candidate.split(), reference.split()
    row = [0] * (len(theirs) + 1)
    for word in ours:
        before, row = row, [0]
        for j, other in enumerate(theirs):
            row.append(before[j] + 1 if word == other else max(before[j + 1], row[j]))
    return 2 * row[-1] / max(1, len(ours) + len(theirs))


def distinct(texts: Sequence[str], n: int = 2) -> float:
    """Number of distinct n-grams over the number of n-grams of some texts (arXiv:1510.03055)."""
    grams = sum((_grams(text.split(), n) for text in texts), Counter[tuple[str, ...]]())
    return len(grams) / max(1, grams.total())


def self_bleu(texts: Sequence[str], order: int = 4) -> float:
    """Mean BLEU of all ordered pairs of texts: 1 if all are the same (cf. arXiv:1802.01886); nan for a single text."""
    scores = [sentence_bleu(*pair, order) for a, b in combinations(texts, 2) for pair in ((a, b), (b, a))]
    return sum(scores) / len(scores) if scores else math.nan


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))
