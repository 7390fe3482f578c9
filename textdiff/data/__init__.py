"""Data: documents, tokenised corpora, packing, corruption, and the LightningDataModule."""

from textdiff.data.code import HUMANEVAL, Problem, held_out_code, problems
from textdiff.data.corpus import Corpus, load_corpus
from textdiff.data.corruption.corruption import Corruption, Example, Gaps
from textdiff.data.corruption.fill_in_middle import FillInMiddle
from textdiff.data.corruption.left_to_right import LeftToRight
from textdiff.data.corruption.line_gaps import LineGaps
from textdiff.data.corruption.mixture import Mixture
from textdiff.data.corruption.position_jumps import PositionJumps
from textdiff.data.corruption.random_masks import RandomMasks
from textdiff.data.corruption.sentence_gaps import SentenceGaps
from textdiff.data.corruption.span_gaps import SpanGaps
from textdiff.data.held_out import held_out_gaps, held_out_lengths, held_out_sentences
from textdiff.data.module import TextDataModule
from textdiff.data.rows import KeyedSampler, PackedRows
from textdiff.data.shards import Part, Row, Shards
from textdiff.data.sources import documents

__all__ = [
    "HUMANEVAL",
    "Corpus",
    "Corruption",
    "Example",
    "FillInMiddle",
    "Gaps",
    "KeyedSampler",
    "LeftToRight",
    "LineGaps",
    "Mixture",
    "PackedRows",
    "Part",
    "PositionJumps",
    "Problem",
    "RandomMasks",
    "Row",
    "SentenceGaps",
    "Shards",
    "SpanGaps",
    "TextDataModule",
    "documents",
    "held_out_code",
    "held_out_gaps",
    "held_out_lengths",
    "held_out_sentences",
    "load_corpus",
    "problems",
]
