"""What the README shows is run: its two promises by .ci/run, every other block here.

A block that cannot be run carries the reason on the line above it: <!-- not run: needs a GPU and a day -->.
"""

import re
from pathlib import Path

import pytest

from tests.helpers.markdown import SHOWN, Block, copy_checkout, fenced_blocks, run
from tests.helpers.tree import ROOT

PROMISES = ("Quick start", "Tests")


def first(blocks: list[Block], section: str) -> Block:
    return next(block for block in blocks if block.section == section)


BLOCKS = fenced_blocks((ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("section", PROMISES)
def test_a_promise_is_one_line_that_makes_its_own_environment(section: str) -> None:
    promise = first(BLOCKS, section)
    assert promise.language == "sh"
    assert promise.exemption is None
    assert promise.code.count("\n") == 1
    assert promise.code.startswith("python -m venv ")
    assert not re.search(r"\|\||;|[^&]&[^&]", promise.code), "a promise fails where one of its steps fails"


def test_the_tests_promise_runs_all_default_tests() -> None:
    assert re.search(r"/pytest( -q)?( -n auto)?$", first(BLOCKS, "Tests").code.rstrip())


def test_every_block_says_its_language() -> None:
    assert not [str(block) for block in BLOCKS if block.language not in ("python", "sh", *SHOWN)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language not in SHOWN], ids=str)
def test_block_runs(block: Block, checkout: Path) -> None:
    if any(block is first(BLOCKS, section) for section in PROMISES):
        pytest.skip("a promise: .ci/run runs it on a fresh copy")
    if block.exemption:
        pytest.skip(f"README.md, line {block.line}: {block.exemption}")
    run(block, checkout)


def test_blocks_are_found_with_section_and_exemption() -> None:
    fence = "`" * 3
    text = f"""
## Use
{fence}python
x = 1
## no heading
{fence}
<!-- not run: needs a GPU -->
{fence}sh
false
{fence}
## Tests
  {fence}
y
  {fence}
"""
    python, shell, indented = fenced_blocks(text)
    assert python == Block("python", "x = 1\n## no heading\n", "Use", 3, None)
    assert shell == Block("sh", "false\n", "Use", 8, "needs a GPU")
    assert indented.section == "Tests" and indented.language not in ("python", "sh", *SHOWN)


@pytest.mark.parametrize(
    ("language", "code"),
    [("python", "raise ValueError('the cause')\n"), ("sh", "echo the cause\nfalse\necho unreached\n")],
)
def test_a_failing_block_is_caught(language: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"line 7(.|\n)*the cause"):
        run(Block(language, code, "Use", 7, None), tmp_path)
