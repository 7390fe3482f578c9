"""What the README shows is run: its two promises by .ci/run, every other block here.

A block that cannot be run carries the reason on the line above it: <!-- not run: needs a GPU and a day -->.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.tree import ROOT, files

PROMISES = ("Quick start", "Tests")
SHOWN = ("text", "yaml", "json", "bibtex")  # languages that nobody can run


@dataclass(frozen=True)
class Block:
    """A fenced block of a Markdown text, with the section that it stands in and the line where it opens."""

    language: str
    code: str
    section: str
    line: int
    exemption: str | None

    def __str__(self) -> str:
        return f"{self.language}-line-{self.line}"


def fenced_blocks(text: str) -> list[Block]:
    blocks, section, opened = [], "", None
    lines = text.splitlines()
    for number, line in enumerate(lines):
        fence = re.fullmatch(r"\s*(`{3,}|~{3,})\s*(.*)", line)
        if opened is not None:
            if fence:
                above = re.fullmatch(r"<!-- not run: (.*\S) -->", lines[opened - 1]) if opened else None
                code = "\n".join(lines[opened + 1 : number]) + "\n"
                language = lines[opened].removeprefix("```")
                blocks.append(Block(language, code, section, opened + 1, above and above[1]))
                opened = None
        elif fence:
            opened = number
        elif heading := re.fullmatch(r"## (.*)", line):
            section = heading[1]
    assert opened is None, f"the block that opens in line {opened} does not close"
    return blocks


def first(blocks: list[Block], section: str) -> Block:
    return next(block for block in blocks if block.section == section)


def run(block: Block, folder: Path) -> None:
    """Run a block in a folder, in an interpreter or a shell of its own, and raise with its output when it fails."""
    command = {"python": [sys.executable, "-"], "sh": ["bash", "-euo", "pipefail", "-s"]}[block.language]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        input=block.code,
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"README.md, line {block.line}: exit status {done.returncode}\n{done.stdout}"


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
    """A copy of the tree, so that blocks find only what a clone holds and leave nothing behind."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    return folder


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
