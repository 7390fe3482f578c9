"""Whether a file or a folder can be written: found out before the work, not after it."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

from textdiff.errors import UserError

_SAMPLE = bytes(4096)


def as_path(value: Any, name: str) -> Path:
    """The path that an argument gives.

    Args:
        value: of the argument.
        name: of the argument, for messages.

    Raises:
        TypeError: it is no path.
        UserError: it is empty, or no file system has such a name.
    """
    if not isinstance(value, str | os.PathLike) or isinstance(path := os.fspath(value), bytes):
        raise TypeError(f"{name} is {value!r:.80}, expected a path")
    if not path or "\0" in path:
        raise UserError(f"{name} is {path!r:.80}: name a file or a folder")
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{name} is {path!r:.80}: the name is too long, give a shorter one") from error
    except UnicodeEncodeError as error:
        raise UserError(f"{name} is {path!r:.80}: no file has such a name") from error
    return Path(path)


def probe_file(path: str | Path, name: str = "the file") -> Path:
    """Check that a file can be written, and leave nothing behind; returns its path.

    Raises:
        UserError: it is a folder or no plain file, or its folder cannot be written.
    """
    found = as_path(path, name)
    if found.is_dir():
        raise UserError(f"{str(found)!r} is a folder: name a file to write to")
    if os.path.lexists(real := os.path.realpath(found)) and not os.path.isfile(real):
        raise UserError(f"{str(found)!r} is no plain file: name another file to write to")
    _probe(found, found.parent)
    return found


def probe_folder(folder: str | Path, name: str = "the folder") -> Path:
    """Check that files can be written to a folder, which need not exist, and leave nothing behind; returns its path.

    Raises:
        UserError: it is a file, or cannot be written.
    """
    found = as_path(folder, name)
    if os.path.lexists(found) and not found.is_dir():
        raise UserError(f"{str(found)!r} is no folder: name another one to write to")
    _probe(found, found)
    return found


def _probe(path: Path, folder: Path) -> None:
    """Write a block to the folder, or to the nearest one above it that exists."""
    try:
        while not _is_there(folder):
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(_SAMPLE)
            file.flush()
    except OSError as error:
        raise UserError(
            f"{str(path)!r} cannot be written ({error.strerror or error}): name another place, or make room"
        ) from error


def _is_there(path: Path) -> bool:
    """Whether something has that name; raises what the system says about names that are none."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True
