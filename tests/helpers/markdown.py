"""Fenced blocks of Markdown texts, and what it takes to run them."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.processes import captured
from tests.helpers.tree import ROOT, files

SHOWN = ("text", "yaml", "json", "bibtex")  # languages that nobody can run


@dataclass(frozen=True)
class Block:
    """A fenced block of a Markdown text, with the section that it stands in and the line where it opens."""

    language: str
    code: str
    section: str
    line: int
    exemption: str | None
    page: str = "README.md"

    def __str__(self) -> str:
        return f"{self.language}-line-{self.line}"


def fenced_blocks(text: str, page: str = "README.md") -> list[Block]:
    """The blocks of a text; the line above one may say why it is not run."""
    blocks, section, opened = [], "", None
    lines = text.splitlines()
    for number, line in enumerate(lines):
        fence = re.fullmatch(r"\s*(`{3,}|~{3,})\s*(.*)", line)
        if opened is not None:
            if fence:
                above = re.fullmatch(r"<!-- not run: (.*\S) -->", lines[opened - 1]) if opened else None
                code = "\n".join(lines[opened + 1 : number]) + "\n"
                language = lines[opened].removeprefix("```")
                blocks.append(Block(language, code, section, opened + 1, above and above[1], page))
                opened = None
        elif fence:
            opened = number
        elif heading := re.fullmatch(r"## (.*)", line):
            section = heading[1]
    assert opened is None, f"the block that opens in line {opened} does not close"
    return blocks


def copy_checkout(folder: Path) -> Path:
    """A copy of the tree, so that blocks find only what a clone holds and leave nothing behind."""
    for path in files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    return folder


def run(block: Block, folder: Path) -> None:
    """Run a block in a folder, in an interpreter or a shell of its own, and raise with its output when it fails."""
    command = {"python": [sys.executable, "-"], "sh": ["bash", "-euo", "pipefail", "-s"]}[block.language]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = captured(
        command,
        seconds=300,
        input=block.code,
        cwd=folder,
        env=os.environ | {"PATH": path},
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, f"{block.page}, line {block.line}: exit status {done.returncode}\n{done.stdout}"
