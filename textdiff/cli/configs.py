"""Configurations by name: the YAMLs that come with textdiff."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from textdiff.errors import UserError
from textdiff.pretrained.packaged import packaged_folder

OPTION = "--config"
COMPARISONS = "compare"
"""Folder of the configurations of `textdiff compare`; all others are Lightning's."""

_NAME = re.compile(r"[\w./+~-]{1,200}")


def with_configs(arguments: Sequence[str], command: str) -> list[str]:
    """The arguments of a command, in which each `--config` is a path: `--config stories` becomes that of its YAML.

    A file wins over a name. What is neither a path nor a name (YAML itself) is left as it is.

    Args:
        arguments: those of the command line.
        command: "compare", or one of Lightning's.

    Raises:
        UserError: there is no file and no configuration of that name; the message lists those there are.
    """
    found = list(arguments)
    for number, word in enumerate(arguments):
        if word == OPTION and number + 1 < len(arguments):
            found[number + 1] = _path(arguments[number + 1], command)
        elif word.startswith(f"{OPTION}="):
            found[number] = f"{OPTION}={_path(word.partition('=')[2], command)}"
    return found


def _path(value: str, command: str) -> str:
    """The path of a YAML file or of a named configuration; YAML itself as it is."""
    if value == "-":  # standard input
        return value
    path = os.path.expanduser(value)
    if os.path.exists(path) and not os.path.isdir(path):
        return path
    if not _NAME.fullmatch(value):
        return value
    known = _known(command)
    name = value.removeprefix("configs/").removeprefix(f"{COMPARISONS}/" if command == COMPARISONS else "")
    if (found := known.get(name.removesuffix(".yaml"))) is not None:
        return str(found)
    raise UserError(f"there is no configuration {value[:80]!r}: give a YAML file, or one of {_listed(known)}")


def _known(command: str) -> dict[str, Path]:
    """The paths of the configurations of a command, by name."""
    folder = packaged_folder("configs")
    ours = folder / COMPARISONS
    if command == COMPARISONS:
        return {path.stem: path for path in sorted(ours.glob("*.yaml"))}
    paths = [path for path in sorted(folder.rglob("*.yaml")) if path.parent != ours]
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def _listed(names: Iterable[str]) -> str:
    """Names in words, those of a folder in one pair of braces as a shell writes them: convert/{full,lora}."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, last = name.rpartition("/")
        folders.setdefault(folder, []).append(last)
    return ", ".join(
        f"{folder}/{{{','.join(last)}}}" if folder else ", ".join(last) for folder, last in folders.items()
    )
