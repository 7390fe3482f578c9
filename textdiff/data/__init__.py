"""Data: documents, tokenised corpora, packing, corruption, and the LightningDataModule."""

from typing import TYPE_CHECKING, Any

from textdiff.data.code import Problem, held_out_code, problems
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
from textdiff.data.corruption.whole_texts import WholeTexts
from textdiff.data.held_out import HeldOutGap, held_out_gaps, held_out_lengths, held_out_sentences, held_out_texts
from textdiff.data.passages import passages
from textdiff.data.rows import KeyedSampler, PackedRows
from textdiff.data.shards import Part, Row, Shards
from textdiff.data.sources import (
    HubDataset,
    HumanEval,
    JsonLines,
    ModelSamples,
    Questions,
    RowSource,
    Source,
    TableFile,
    TextFile,
    WorldTexts,
    documents,
    parse_source,
)

if TYPE_CHECKING:
    from textdiff.data.module import TextDataModule

__all__ = [
    "Corpus",
    "Corruption",
    "Example",
    "FillInMiddle",
    "Gaps",
    "HeldOutGap",
    "HubDataset",
    "HumanEval",
    "JsonLines",
    "KeyedSampler",
    "LeftToRight",
    "LineGaps",
    "Mixture",
    "ModelSamples",
    "PackedRows",
    "Part",
    "PositionJumps",
    "Problem",
    "Questions",
    "RandomMasks",
    "Row",
    "RowSource",
    "SentenceGaps",
    "Shards",
    "Source",
    "SpanGaps",
    "TableFile",
    "TextDataModule",
    "TextFile",
    "WholeTexts",
    "WorldTexts",
    "documents",
    "held_out_code",
    "held_out_gaps",
    "held_out_lengths",
    "held_out_sentences",
    "held_out_texts",
    "load_corpus",
    "parse_source",
    "passages",
    "problems",
]


def __getattr__(name: str) -> Any:
    """`TextDataModule` on first use: it imports Lightning, which nothing else here needs."""
    if name == "TextDataModule":
        from textdiff.data.module import TextDataModule

        return TextDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
