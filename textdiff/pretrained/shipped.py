"""Where a checkpoint lies: a folder, a checkpoint that comes with the package, or one on the Hugging Face Hub."""

from __future__ import annotations

import os
from pathlib import Path

from textdiff.errors import UserError
from textdiff.models.adapter_files import ADAPTER_CONFIG, base_of
from textdiff.pretrained.hub import download, is_hub_id
from textdiff.pretrained.packaged import packaged
from textdiff.pretrained.weights import CONFIG, WEIGHTS

DEFAULT_CHECKPOINT = "stories"


def shipped(name: str) -> Path:
    """The folder of a checkpoint that comes with the package, such as "stories" or "stories-ar".

    Raises:
        UserError: no checkpoint of that name comes with the package.
    """
    folders = _shipped()
    if name not in folders:
        there = f"only {', '.join(sorted(folders))}" if folders else "this installation has none"
        raise UserError(f"no checkpoint {name!r} comes with textdiff, {there}: give the folder of a checkpoint")
    return folders[name]


def _shipped() -> dict[str, Path]:
    """Folders by name: inside an installed package, or next to the package in a clone of the repository."""
    package = Path(__file__).resolve().parents[1]
    places = [package.parent / "checkpoints", package / "checkpoints"]
    return {config.parent.name: config.parent for place in places for config in sorted(place.glob(f"*/{CONFIG}"))}


def locate(checkpoint: str | Path) -> Path:
    """The folder of a checkpoint: a local one, one that comes with the package, or one downloaded from the Hub.

    Args:
        checkpoint: a folder; else the name of a shipped checkpoint; else `owner/name` on the Hugging Face Hub.

    Raises:
        UserError: there is no such checkpoint.
    """
    if os.path.isdir(folder := packaged(checkpoint)):
        return folder
    folders = _shipped()
    if str(checkpoint) in folders:
        return folders[str(checkpoint)]
    if is_hub_id(checkpoint):
        return download(str(checkpoint))
    what = "is a file, no checkpoint" if os.path.exists(checkpoint) else "is no folder, and no shipped checkpoint"
    names = f" or one of {', '.join(sorted(folders))}" if folders else ""
    raise UserError(f"{str(checkpoint)!r} {what}: give a folder with {CONFIG} and {WEIGHTS}{names}")


def tokenizer_folder(checkpoint: str | Path) -> Path:
    """The folder that holds the tokenizer of a checkpoint: its own, or for an adapter that of the adapted checkpoint.

    Raises:
        UserError: there is no such checkpoint.
    """
    path = locate(checkpoint)
    return adapted(path) if (path / ADAPTER_CONFIG).exists() else path


def adapted(adapter: Path) -> Path:
    """The folder of the checkpoint that an adapter adapts.

    Args:
        adapter: its folder.

    Raises:
        UserError: there is no such checkpoint, or it is an adapter itself.
    """
    base = locate(base_of(adapter))
    if (base / ADAPTER_CONFIG).exists():
        raise UserError(
            f"the adapter in {str(adapter)!r} adapts another adapter, {str(base)!r}: give it a whole checkpoint"
        )
    return base
