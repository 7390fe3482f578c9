"""Problems of code infilling: their fields, and the gap of the canonical solution."""

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from textdiff.data import Problem, held_out_code, problems
from textdiff.errors import UserError
from textdiff.text import Vocabulary

ADD = Problem("t/0", "def add(a, b):\n", "\n    return c\n", "    c = a + b", "assert add(1, 2) == 3")


def test_problems_are_read(tmp_path: Path) -> None:
    checked = Problem("t/1", "def f():\n", "", "    pass\n", "def check(candidate): candidate()", "f")
    rows = [json.dumps(vars(problem) | {"more": 1}) for problem in (ADD, checked)]
    (tmp_path / "code.jsonl").write_text(f"{rows[0]}\n\n{rows[1]}\n")
    assert problems(f"humaneval:{tmp_path / 'code.jsonl'}") == [ADD, checked]
    assert checked.program("    1\n") == "def f():\n    1\n\ndef check(candidate): candidate()\ncheck(f)\n"
    exec(ADD.program(ADD.canonical_solution), {})


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"task_id": "t", "prompt": ""}', "line 1 .* has no text 'suffix'"), ("{", "line 1 .* is no JSON")],
)
def test_a_row_without_a_field_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "code.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        problems(f"humaneval:{tmp_path / 'code.jsonl'}")


def test_the_gap_is_the_canonical_solution(tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> None:
    ((canvas, tokens),), (problem,) = held_out_code([ADD], tokenizer, vocabulary, 5)
    gap = canvas.slots[0]
    assert problem == ADD and tokenizer.decode(tokens[0][gap]) == "    c = a + b"
    assert tokenizer.decode(tokens[0], skip_special_tokens=True) == ADD.prompt + ADD.canonical_solution + ADD.suffix
    assert (canvas.tokens[0][gap] == vocabulary.mask).all() and (canvas.minimum == gap.sum()).all()
    assert (canvas.tokens[canvas.observed] == tokens[canvas.observed]).all() and not canvas.word_start.any()
    assert tokens[0, 0] == vocabulary.bos and tokens[0, -1] == vocabulary.eos


def test_problems_that_do_not_fit_are_passed_over(tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> None:
    size = int(held_out_code([ADD], tokenizer, vocabulary, 5)[0][0][0].slots.sum())
    empty = Problem("t/2", "a", "b", "", "")
    assert held_out_code([empty, ADD, ADD, ADD], tokenizer, vocabulary, 2)[1] == [ADD, ADD]
    assert held_out_code([ADD], tokenizer, vocabulary, 5, longest_gap=size - 1) == ([], [])
    assert held_out_code([ADD], tokenizer, vocabulary, 5, longest=size + 4) == ([], [])
