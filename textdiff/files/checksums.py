"""Checksums of the files of a folder, in the format of `sha256sum`, so that a damaged file is noticed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from textdiff.errors import UserError
from textdiff.files.atomic import write_text
from textdiff.files.read import check_plain

CHECKSUMS = "SHA256SUMS"
"""Name of the file that holds them: `sha256sum --check SHA256SUMS` checks a folder, too."""
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_MOST_BYTES = 2**20


def write_checksums(folder: Path, names: Collection[str]) -> None:
    """Write the checksums of some files of a folder beside them."""
    _write(folder, {name: _digest(folder / name) for name in names})


@contextmanager
def replaced(folder: Path, name: str) -> Iterator[None]:
    """A context in which a file of a folder is replaced; its checksum is renewed, if the folder has checksums.

    Meanwhile the file is not listed, so that a kill at any moment leaves a folder that can be read.

    Raises:
        UserError: the checksums are damaged.
    """
    listed = _listed(folder)
    if listed is None:
        yield
        return
    _write(folder, {other: digest for other, digest in listed.items() if other != name})
    yield
    _write(folder, listed | {name: _digest(folder / name)})


def check_checksums(folder: Path) -> None:
    """Check the files of a folder that has checksums; without them nothing is checked.

    Raises:
        UserError: a file is not the one that was written.
    """
    for name, digest in (_listed(folder) or {}).items():
        if (folder / name).is_file() and _digest(folder / name) != digest:
            raise UserError(
                f"{name} in {str(folder)!r} is not the file that {CHECKSUMS} lists: it is damaged, copy it again; "
                "or if you have changed it, delete its line there"
            )


def _listed(folder: Path) -> dict[str, str] | None:
    """Checksums by name of file; None: the folder has none."""
    path = folder / CHECKSUMS
    try:
        check_plain(path, _MOST_BYTES)
        found = [_LINE.fullmatch(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        found = [None]
    listed = {line[2]: line[1] for line in found if line and Path(line[2]).name == line[2]}
    if len(listed) < len(found):
        raise UserError(f"{CHECKSUMS} in {str(folder)!r} is damaged: copy the checkpoint again, or delete that file")
    return listed


def _write(folder: Path, listed: dict[str, str]) -> None:
    write_text(folder / CHECKSUMS, "".join(f"{listed[name]}  {name}\n" for name in sorted(listed)))


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read ({error.strerror or error}): copy it again") from error
