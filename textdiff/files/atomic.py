"""Files and folders that are either whole or not there, whatever ends the process that writes them."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from textdiff.errors import UserError

try:
    import fcntl
except ImportError:  # on Windows: no locks, and leftovers of dead processes stay
    fcntl = None  # type: ignore[assignment]

PART = re.compile(r"\..*\.[0-9a-f]{8}\.part", re.DOTALL)
"""Names under which files and folders are written before they are renamed."""
READY = ".ready"
"""Ending of folders that are whole, and whose files are being moved."""
YOUNG = 1.0
"""Seconds in which `tidy` leaves a file alone: it may be of a process that is just about to lock it."""
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How libraries in Rust write down an error of the system."""


@contextmanager
def atomically(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing under another name in its folder, and rename it into place when all is written.

    Whatever stood at `path` stays until then: a process that is killed at any moment, or whose disk is full, leaves the
    old file or the new one. What killed processes have left in the folder is deleted.

    Raises:
        UserError: the disk is full, or the file cannot be written; `path` is no plain file.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    if os.path.lexists(path) and not path.is_file():
        raise UserError(f"{str(path)!r} is no plain file: name another file to write to")
    with _reported(path), _part(path) as part, part.open("xb") as file, _locked(file.fileno()):
        yield file
        file.flush()
        os.fsync(file.fileno())
        part.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, `atomically`."""
    with atomically(path) as file:
        file.write(text.encode("utf-8", errors="backslashreplace"))


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new, empty folder to write to; when all is written its files are moved to `folder`.

    If there is no `folder` the new one is renamed, which is one step. If there is one its other files are kept, and
    files of the same names are replaced one by one; what a kill leaves undone of that, `finish` does.

    Args:
        folder: where the files belong.

    Raises:
        UserError: the disk is full, or `folder` cannot be written.
    """
    folder = Path(os.path.realpath(folder))
    finish(folder)
    with _reported(folder), _part(folder / "x" if folder.exists() else folder) as part:
        part.mkdir()
        place = os.open(part, os.O_RDONLY)
        try:
            with _locked(place):
                yield part
                files = [file for file in part.rglob("*") if file.is_file()]
                for file in files:
                    _sync(file)
                if folder.exists():
                    _check_targets(files, part, folder)
                    part.rename(ready := part.with_suffix(READY))  # from here on `finish` can do the rest
                    _move(ready, folder)
                else:
                    part.rename(folder)
        finally:
            os.close(place)


def finish(folder: Path) -> None:
    """Move the files to a folder that a process had written whole when it was killed; a reader calls it first."""
    for ready in folder.glob(f".*{READY}"):
        if PART.fullmatch(ready.with_suffix(".part").name) and ready.is_dir() and not ready.is_symlink():
            with suppress(OSError), _unlocked(ready):
                _move(ready, folder)


def _check_targets(files: list[Path], part: Path, folder: Path) -> None:
    """Raise an error if a folder stands where a file has to be."""
    for target in (folder / file.relative_to(part) for file in files):
        if target.is_dir():
            raise UserError(f"{str(target)!r} is a folder, and a file has to be there: name another folder to write to")


def _move(ready: Path, folder: Path) -> None:
    """Move files one by one to a folder that exists; whatever ends this, it can be done again."""
    for place, _, names in os.walk(ready):
        target = folder / Path(place).relative_to(ready)
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            Path(place, name).replace(target / name)
    _delete(ready)


def tidy(folder: Path) -> None:
    """Delete the unfinished files and folders in a folder whose processes are dead; those of live ones are locked."""
    for part in folder.glob(".*.part"):
        if PART.fullmatch(part.name) and not part.is_symlink():
            with suppress(OSError):  # a live process holds the lock, or another one has just deleted it
                if time.time() - part.stat().st_mtime >= YOUNG:
                    with _unlocked(part):
                        _delete(part)


@contextmanager
def _unlocked(part: Path) -> Iterator[None]:
    """Hold the lock of a file or folder that no live process writes.

    Raises:
        OSError: a live process writes it, or there are no locks.
    """
    if fcntl is None:
        raise OSError("no locks")
    place = os.open(part, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(place)


@contextmanager
def _part(path: Path) -> Iterator[Path]:
    """A name beside `path`, that nothing has; what is there in the end is deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tidy(path.parent)
    part = path.with_name(f".{path.name[:64]}.{secrets.token_hex(4)}.part")
    try:
        yield part
    finally:
        _delete(part)


@contextmanager
def _locked(place: int) -> Iterator[None]:
    """Hold the lock by which `tidy` sees that the process that has the file `place` open is alive."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(place, fcntl.LOCK_EX)
    yield


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Report an error of the system in one line that names `path`, whatever the library that writes makes of it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = _cause(error)
        if cause is None or not (cause.filename is None or str(path.parent) in str(cause.filename)):
            raise
        raise UserError(
            f"{str(path)!r} cannot be written ({cause.strerror or cause}): what was there before is unchanged; "
            "make room, or name another place"
        ) from error


def _cause(error: BaseException | None) -> OSError | None:
    """The error of the system behind an error."""
    while error is not None and not isinstance(error, OSError):
        if number := _OS_ERROR.search(str(error)):
            return OSError(int(number[1]), os.strerror(int(number[1])))
        error = error.__cause__ or error.__context__
    return error


def _delete(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
