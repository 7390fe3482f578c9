"""Reading small files that others have written: plain files of a bounded size, JSON as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from textdiff.errors import UserError, reason

MOST_BYTES = 2**24
"""Of a file of settings."""


def check_plain(path: Path, most: int = MOST_BYTES) -> None:
    """Check that a file may be read: that it is a plain file (no folder, pipe or device) of a bounded size.

    Args:
        path: of the file, or a link to one.
        most: its largest size in bytes.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is something else, or too large.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{_of(path)} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not path.is_file():
        raise UserError(f"{_of(path)} is no plain file: copy it again")
    if found.st_size > most:
        raise UserError(f"{_of(path)} has {found.st_size:,} bytes, expected at most {most:,}: copy it again")


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """The content of a JSON file of at most so many bytes.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no plain file, too large, or no JSON in UTF-8; or a key occurs twice in an object.
    """
    check_plain(path, most)
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{_of(path)} is damaged ({reason(error):.120}): copy it again") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f"{name!r:.40} is there twice")
        content[name] = value
    return content


def _of(path: Path) -> str:
    return f"{path.name} in {str(path.parent)!r}"
