"""Files that come with the package: checkpoints, and YAMLs with the texts that they name."""

from __future__ import annotations

import os
from pathlib import Path

FOLDERS = ("checkpoints", "configs")


def packaged_folder(name: str) -> Path:
    """One of `FOLDERS`: inside an installed package, or next to the package in a clone of the repository."""
    package = Path(__file__).resolve().parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def packaged(path: str | Path) -> Path:
    """A path as it is; or, if there is nothing, what `configs/...` or `checkpoints/...` names in the package.

    So configurations and commands that were written in a clone of the repository work wherever textdiff is installed.
    """
    first, *rest = Path(path).parts or ("",)
    if first in FOLDERS and rest and ".." not in rest and not os.path.lexists(path):
        found = packaged_folder(first).joinpath(*rest)
        if found.exists():
            return found
    return Path(path)
