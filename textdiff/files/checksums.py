"""Checksums of the files of a folder, in the format of `sha256sum`, so that a damaged file is noticed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from pathlib import Path

from textdiff.errors import UserError
from textdiff.files.atomic import write_text

CHECKSUMS = "SHA256SUMS"
"""Name of the file that holds them: `sha256sum --check SHA256SUMS` checks a folder, too."""
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_MOST_BYTES = 2**20


def write_checksums(folder: Path, names: Collection[str]) -> None:
    """Write the checksums of some files of a folder beside them."""
    write_text(folder / CHECKSUMS, "".join(f"{_digest(folder / name)}  {name}\n" for name in sorted(names)))


def check_checksums(folder: Path) -> None:
    """Check the files of a folder that has checksums; without them nothing is checked.

    Raises:
        UserError: a file is not the one that was written.
    """
    listed = folder / CHECKSUMS
    if not listed.is_file():
        return
    try:
        with listed.open("rb") as file:
            lines = file.read(_MOST_BYTES).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(_damaged(folder)) from error
    found = [_LINE.fullmatch(line) for line in lines]
    for line in found:
        if line is None or Path(line[2]).name != line[2]:
            raise UserError(_damaged(folder))
        file_, expected = folder / line[2], line[1]
        if file_.is_file() and _digest(file_) != expected:
            raise UserError(
                f"{line[2]} in {str(folder)!r} is not the file that {CHECKSUMS} lists: it is damaged, copy it again; "
                f"or if you have changed it, delete its line there"
            )


def _damaged(folder: Path) -> str:
    return f"{CHECKSUMS} in {str(folder)!r} is damaged: copy the checkpoint again, or delete that file"


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read ({error.strerror or error}): copy it again") from error
