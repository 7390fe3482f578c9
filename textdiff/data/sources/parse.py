"""The shorthand of sources: all prefixes such as `world:` are known here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from textdiff.data.sources.hub_dataset import HubDataset
from textdiff.data.sources.human_eval import HumanEval
from textdiff.data.sources.model_samples import ModelSamples
from textdiff.data.sources.paths import LINES, TEXT, ending, matching
from textdiff.data.sources.questions import Questions
from textdiff.data.sources.source import Source
from textdiff.data.sources.table_file import JsonLines, TableFile
from textdiff.data.sources.text_file import TextFile
from textdiff.data.sources.world_texts import WorldTexts
from textdiff.errors import UserError

Named = TypeVar("Named", bound=str | Path | Source)
"""A source, or its shorthand."""

HUB, WORLD, PRIOR, QUESTIONS, HUMANEVAL = "hub:", "world:", "prior:", "questions:", "humaneval:"


def parse_source(source: str | Path | Source) -> Source:
    """The source that a string names; a source is returned as it is.

    Args:
        source: a path, or a shorthand:

            | shorthand | source |
            |---|---|
            | `FILE.txt` | `TextFile` |
            | `FILE.jsonl`, `FILE.ndjson` | `JsonLines` |
            | `FILE.json`, `FILE.csv`, `FILE.tsv`, `FILE.parquet`, `FILE.arrow` | `TableFile` |
            | `hub:owner/name[:config][@split]` | `HubDataset` |
            | `world:name:count[:seed]` | `WorldTexts` |
            | `prior:checkpoint:count[:seed]` | `ModelSamples` |
            | `questions:path` | `Questions` |
            | `humaneval:path` | `HumanEval` |

            Files but parquet and arrow may be compressed: `FILE.txt.gz`, `.zst`, `.xz`, `.bz2`.

    Raises:
        UserError: a count or a seed is missing or no number.
    """
    if isinstance(source, Source):
        return source
    text = str(source)
    if text.startswith(HUB):
        whole, _, split = text.removeprefix(HUB).partition("@")
        name, _, config = whole.partition(":")
        return HubDataset(name, config or None, split or "train")
    if text.startswith(WORLD):
        return WorldTexts(*_with_count(text, WORLD))
    if text.startswith(PRIOR):
        return ModelSamples(*_with_count(text, PRIOR))
    if text.startswith(QUESTIONS):
        return Questions(text.removeprefix(QUESTIONS))
    if text.startswith(HUMANEVAL):
        return HumanEval(text.removeprefix(HUMANEVAL))
    kind = ending(text)
    return TextFile(text) if kind in TEXT else JsonLines(text) if kind in LINES else TableFile(text)


def parse_sources(sources: Sequence[str | Path | Source]) -> Iterator[Source]:
    """The sources that strings name, see `parse_source`; a shell pattern such as `~/texts/*.txt` names several files.

    A file whose name is exactly the string wins over a pattern: `held[1].jsonl` is that file, if it is there.

    Raises:
        UserError: as `parse_source`.
        TypeError: `sources` is a single string.
    """
    for source in source_list(sources):
        text = "" if isinstance(source, Source) else str(source)
        if isinstance(source, Source) or text.startswith((HUB, WORLD, PRIOR)):
            yield parse_source(source)
            continue
        prefix = next((prefix for prefix in (QUESTIONS, HUMANEVAL) if text.startswith(prefix)), "")
        yield from (parse_source(prefix + path) for path in matching(text.removeprefix(prefix)))


def source_list(sources: Sequence[Named], name: str = "sources") -> list[Named]:
    """The sources as a list.

    Raises:
        TypeError: they are a single string or none at all; about the argument `name`.
    """
    if isinstance(sources, str | Path | Source) or not isinstance(sources, Sequence):
        raise TypeError(f"{name} is {sources!r:.200}, expected a list of sources: put it into brackets")
    return list(sources)


def world_name(text: str) -> str | None:
    """The world that `world:name` names, where a tokenizer or a prior is asked for; None: it names something else."""
    return text.removeprefix(WORLD) if text.startswith(WORLD) else None


def hub_name(text: str) -> str | None:
    """The repository that `hub:owner/name` names, where a tokenizer is asked for; None: it names something else."""
    return text.removeprefix(HUB) if text.startswith(HUB) else None


def _with_count(text: str, prefix: str) -> tuple[str, int, int]:
    """Name, number of texts and seed."""
    name, *numbers = text.removeprefix(prefix).split(":")
    if not 1 <= len(numbers) <= 2 or not all(number.isdecimal() for number in numbers) or int(numbers[0]) < 1:
        raise UserError(f"{text!r} is no source of texts: expected {prefix}name:count or {prefix}name:count:seed")
    return name, int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else 0
