"""Results of a command: printed as Markdown or as JSON, and saved in a folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from textdiff.cli.terminal import write, write_json
from textdiff.files import atomically, probe_folder, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Result(Protocol):
    """What a command measured; as text it is Markdown."""

    def json(self) -> str:
        """All figures as one JSON object."""
        ...


def add_json(parser: argparse.ArgumentParser) -> None:
    """Option for JSON in place of Markdown."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def add_folder(parser: argparse.ArgumentParser, files: str) -> None:
    """Option for the folder in which `publish` saves results; `files` are their names, in words."""
    parser.add_argument("--to", metavar="FOLDER", help=f"write {files} there")


def make_folder(options: argparse.Namespace) -> None:
    """Make the folder of `add_folder`, if one was named: before minutes of work, not after them."""
    if options.to is not None:
        probe_folder(options.to).mkdir(parents=True, exist_ok=True)


def publish(result: Result, options: argparse.Namespace, name: str, figure: Figure | None = None) -> int:
    """Save a result as NAME.md, NAME.json and NAME.png in the folder of `add_folder`, if one was named, and print it.

    Returns:
        The exit status.
    """
    if getattr(options, "to", None) is not None:
        folder = Path(options.to)
        write_text(folder / f"{name}.md", f"{result}\n")
        write_text(folder / f"{name}.json", f"{result.json()}\n")
        if figure is not None:
            with atomically(folder / f"{name}.png") as file:
                figure.savefig(file, format="png", dpi=120)
    return write_json(result.json()) if options.json else write(f"{result}\n")
