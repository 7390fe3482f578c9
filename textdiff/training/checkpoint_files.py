"""The `.ckpt` files of a run: written whole or not at all, their checksums checked, read without running code."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import torch
from lightning.fabric.plugins import CheckpointIO
from packaging.version import InvalidVersion, Version

from textdiff.errors import UserError
from textdiff.files import atomically


@final
class AtomicCheckpointIO(CheckpointIO):
    """Local checkpoint files that are replaced atomically, so that a kill while saving leaves the old one intact.

    Lightning's own class first writes to the system's temporary folder; from there to another file system a move is a
    copy, which can be cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write to a temporary file, then rename it.

        Raises:
            UserError: the disk is full, or the file cannot be written; the former file is as it was.
        """
        with atomically(Path(path)) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read tensors and plain values; code in a checkpoint is never run.

        Raises:
            UserError: the file is missing, damaged or of another program.
        """
        return _content(Path(path), map_location=map_location or "cpu")

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a file."""
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of the `.ckpt` file of a run, its tensors memory-mapped.

    Raises:
        UserError: the file is missing, damaged or of another program.
    """
    path = Path(path)
    content = _content(path, map_location="cpu", mmap=True)
    weights, config = content.get("state_dict"), content.get("network_config")
    if not isinstance(weights, dict) or not isinstance(config, dict):
        raise _damaged(path, "it holds no network_config")
    if not all(isinstance(name, str) for name in weights):
        raise _damaged(path, "its weights have no names")
    return content


def _content(path: Path, **options: Any) -> dict[str, Any]:
    """What an archive of torch holds, after a check of all its bytes."""
    if not os.path.isfile(path):
        raise UserError(f"no checkpoint at {str(path)!r}: give a .ckpt file that a textdiff run has written")
    if (damage := _damage_of(path)) is not None:
        raise _damaged(path, damage)
    try:
        content = torch.load(path, weights_only=True, **options)
    except Exception as error:  # unpickling raises what it likes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise _damaged(path, reason[:200]) from error
    if not isinstance(content, dict):
        raise _damaged(path, "it holds no network_config")
    try:
        Version(content.get("pytorch-lightning_version", "2.0"))
    except (InvalidVersion, TypeError) as error:
        raise _damaged(path, "the version of Lightning that wrote it is none") from error
    return content


def _damaged(path: Path, reason: str) -> UserError:
    """The error for a file that cannot be used; it names a checkpoint beside it that can."""
    others = sorted((o for o in path.parent.glob("*.ckpt") if o.is_file()), key=os.path.getmtime, reverse=True)
    sound = next((str(o) for o in others[:3] if not os.path.samefile(o, path) and _damage_of(o) is None), None)
    fix = "give another .ckpt file" if sound is None else f"another one beside it is {sound!r}"
    return UserError(f"{str(path)!r} is no checkpoint of a textdiff run, or damaged ({reason}): {fix}")


def _damage_of(path: Path) -> str | None:
    """What is wrong with the bytes of an archive of torch, in words; None if they are those that were written."""
    state = os.stat(path)
    return _checked(os.path.realpath(path), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=16)
def _checked(path: str, size: int, changed: int) -> str | None:
    """`_damage_of` a file of this size and time of change; a run reads its checkpoint twice, and checks it once."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                return "its parts are compressed"  # torch never does this; a small file could become a huge one
            damaged = archive.testzip()
    except Exception:  # of a damaged directory zipfile raises what it likes
        return "the file is not whole"
    return None if damaged is None else f"the checksum of its part {damaged[-60:]!r} is another one"
