"""Fill-in-the-middle: a text with gaps, rearranged so that who reads from left to right knows both sides of a gap.

Prefix-suffix-middle (PSM) and suffix-prefix-middle (SPM) of Bavarian et al. 2022 (arXiv:2207.14255), several gaps as in
arXiv:2201.07520. No tokens are added: the mask token stands for a gap and opens a middle, eos closes it.

    PSM   bos prefix [mask] suffix eos  [mask] middle eos   (and so on: a mask, a middle and an eos for each gap)
    SPM   [mask] suffix eos bos prefix  [mask] middle eos   (one gap)
"""

from __future__ import annotations

from collections.abc import Sequence

from textdiff.text.vocabulary import Vocabulary


def evidence_first(pieces: Sequence[Sequence[int]], vocabulary: Vocabulary, suffix_first: bool = False) -> list[int]:
    """What is read before the first middle: the evidence, and where its gaps are.

    Args:
        pieces: ids of the evidence before, between and behind the gaps: one more than there are gaps.
        vocabulary: special tokens.
        suffix_first: SPM, of a text with one gap.
    """
    if suffix_first:
        prefix, suffix = pieces
        return [vocabulary.mask, *suffix, *prefix]
    context = list(pieces[0])
    for piece in pieces[1:]:
        context += [vocabulary.mask, *piece]
    return context
