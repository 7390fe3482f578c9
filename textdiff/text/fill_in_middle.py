"""Fill-in-the-middle: a text with gaps, rearranged so that who reads from left to right knows both sides of a gap.

Prefix-suffix-middle (PSM) and suffix-prefix-middle (SPM) of Bavarian et al. 2022 (arXiv:2207.14255), several gaps as in
arXiv:2201.07520. No tokens are added: the mask token stands for a gap and opens a middle, eos closes it.

    PSM   bos prefix [mask] suffix eos  [mask] middle eos   (and so on: a mask, a middle and an eos for each gap)
    SPM   [mask] suffix eos bos prefix  [mask] middle eos   (one gap)

Every token keeps its place in the text, whenever it is read: a middle stands right behind what is before its gap, its
opening mask where the last token before the gap stands, and what is behind a gap stands `ROOM` further on, for how long
the gap is must not be told. So a middle continues its prefix as any text continues, which a network that reads from
left to right can do already, and the suffix is there beside it. With positions counted as tokens are read, a network of
5 M parameters was after 1,000 steps worse with the suffix than without it (`checkpoints/stories-fim`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textdiff.text.vocabulary import Vocabulary

ROOM = 64
"""Places that are kept free for each gap, however long it is."""


@dataclass(frozen=True)
class Laid:
    """What is read before the first middle.

    Attributes:
        ids: the evidence, and where its gaps are.
        positions: rotary position of each.
        starts: position of the first token of each middle.
    """

    ids: list[int]
    positions: list[int]
    starts: list[int]


def evidence_first(pieces: Sequence[Sequence[int]], vocabulary: Vocabulary, suffix_first: bool = False) -> Laid:
    """Lay out the evidence.

    Args:
        pieces: ids of the evidence before, between and behind the gaps: one more than there are gaps.
        vocabulary: special tokens.
        suffix_first: SPM, of a text with one gap.
    """
    parts: list[tuple[list[int], list[int]]] = []
    starts: list[int] = []
    place = 0
    for piece in pieces:
        mark = [vocabulary.mask] if parts else []
        if mark:
            starts.append(place)
            place += ROOM
        positions = [*starts[-1:]] * len(mark) + list(range(place, place + len(piece)))
        parts.append(([*mark, *piece], positions))
        place += len(piece)
    if suffix_first:
        parts.reverse()
    return Laid([i for ids, _ in parts for i in ids], [p for _, positions in parts for p in positions], starts)
