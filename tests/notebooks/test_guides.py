"""What a guide shows is run, unless the line above the block says why not: <!-- not run: needs a GPU and a day -->."""

from pathlib import Path

import pytest

from tests.helpers.markdown import SHOWN, Block, copy_checkout, fenced_blocks, run
from tests.helpers.tree import ROOT

PAGES = [*sorted((ROOT / "notebooks").glob("guides/*.md")), *sorted((ROOT / "notebooks").glob("**/README.md"))]
WRITTEN = [page for page in PAGES if page.parent.name != "cost"]  # the page on costs is written by its script
BLOCKS = [
    block for page in PAGES for block in fenced_blocks(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT)))
]


def name(block: Block) -> str:
    return f"{block.page.removeprefix('notebooks/').replace('/', '-')}-{block}"


def test_every_block_says_its_language() -> None:
    assert not [name(block) for block in BLOCKS if block.language not in ("python", "sh", *SHOWN)]


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.parent.name + "/" + page.name)
def test_lines_are_short(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert not [number for number, line in enumerate(lines, 1) if len(line) > 140]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language not in SHOWN], ids=name)
def test_block_runs(block: Block, checkout: Path) -> None:
    if block.exemption:
        pytest.skip(f"{block.page}, line {block.line}: {block.exemption}")
    run(block, checkout)
