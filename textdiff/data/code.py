"""Code infilling: problems in the format of HumanEval-infilling (arXiv:2207.14255), and their gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from textdiff.data.held_out import HeldOutGap
from textdiff.data.sources import HumanEval, JsonLines, Source, parse_source
from textdiff.errors import UserError
from textdiff.text import Vocabulary, encode


@dataclass(frozen=True)
class Problem:
    """A program with a piece missing.

    Attributes:
        task_id: its name.
        prompt, suffix: the program before and behind the gap.
        canonical_solution: what its author wrote there.
        test: code that defines `check(candidate)`, which raises unless the candidate is right.
        entry_point: name of the function to be checked; empty if `test` runs its check itself.
    """

    task_id: str
    prompt: str
    suffix: str
    canonical_solution: str
    test: str
    entry_point: str = ""

    def program(self, fill: str) -> str:
        """The program with a fill in its gap, followed by its test: it ends without an error if the fill is right."""
        check = f"check({self.entry_point})\n" if self.entry_point else ""
        return f"{self.prompt}{fill}{self.suffix}\n{self.test}\n{check}"


def problems(source: str | Source) -> list[Problem]:
    """The problems of a source `humaneval:FILE.jsonl`; other fields of its rows are ignored.

    Raises:
        UserError: the source is of another kind, there is no such file, or a row lacks a field.
    """
    given = parse_source(source)
    if isinstance(given, JsonLines):
        given = HumanEval(given.path)
    if not isinstance(given, HumanEval):
        raise UserError(f"{given.name!r} holds no problems of code infilling: give humaneval:FILE.jsonl")
    return [Problem(**row) for row in given.rows()]


def held_out_code(
    problems: Sequence[Problem],
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: Vocabulary,
    count: int,
    *,
    longest: int = 512,
    longest_gap: int = 64,
) -> tuple[list[HeldOutGap], list[Problem]]:
    """Cut the canonical solution out of each problem; prompt, solution and suffix are tokenised separately.

    Args:
        problems: taken in order.
        tokenizer: text -> ids.
        vocabulary: special tokens.
        count: gaps that are wanted.
        longest: tokens that a program may have.
        longest_gap: tokens that a solution may have.

    Returns:
        At most `count` gaps, and their problems; problems that are too long, or whose solution is empty, are passed
        over.
    """
    items: list[HeldOutGap] = []
    chosen: list[Problem] = []
    for problem in problems:
        if len(items) == count:
            break
        before, gap, behind = (
            encode(tokenizer, piece, continues=i > 0) if piece else []
            for i, piece in enumerate((problem.prompt, problem.canonical_solution, problem.suffix))
        )
        if not 0 < len(gap) <= longest_gap or len(before) + len(gap) + len(behind) + 2 > longest:
            continue
        tokens = torch.tensor([[vocabulary.bos, *before, *gap, *behind, vocabulary.eos]])
        items.append(HeldOutGap.cut(tokens, [1 + len(before)], len(gap), vocabulary.mask))
        chosen.append(problem)
    return items, chosen
