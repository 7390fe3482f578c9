"""Where text comes from: files, data sets of the Hugging Face Hub, exact worlds, samples of a model.

A source is named by a class, in a YAML as `{class_path: textdiff.data.HubDataset, init_args: {repository: ...}}`, or in
short by a string, which `parse_source` turns into that class.
"""

from textdiff.data.sources.hub_dataset import HubDataset
from textdiff.data.sources.human_eval import HumanEval
from textdiff.data.sources.model_samples import ModelSamples
from textdiff.data.sources.parse import hub_name, parse_source, parse_sources, source_list, world_name
from textdiff.data.sources.questions import Questions
from textdiff.data.sources.reading import check_sources, documents, source_name, source_names, templates
from textdiff.data.sources.source import Entry, ParsedRow, RowSource, Source, readable
from textdiff.data.sources.table_file import JsonLines, TableFile
from textdiff.data.sources.text_file import TextFile
from textdiff.data.sources.world_texts import WorldTexts

__all__ = [
    "Entry",
    "HubDataset",
    "HumanEval",
    "JsonLines",
    "ModelSamples",
    "ParsedRow",
    "Questions",
    "RowSource",
    "Source",
    "TableFile",
    "TextFile",
    "WorldTexts",
    "check_sources",
    "documents",
    "hub_name",
    "parse_source",
    "parse_sources",
    "readable",
    "source_list",
    "source_name",
    "source_names",
    "templates",
    "world_name",
]
