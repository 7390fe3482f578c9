"""What sources that are files have in common."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from textdiff.errors import UserError


def check_file(path: str, name: str | None = None, known: Collection[str] = ()) -> None:
    """Check that a file exists and that its name has one of the endings `known`, if there are any.

    Raises:
        UserError: it does not; about the source `name`, by default the path.
    """
    if not Path(path).is_file():
        raise UserError(
            f"no text file at {str(Path(path))!r}: give the path of a .txt, .jsonl, .csv or .parquet file, "
            "or hub:owner/name"
        )
    if known and Path(path).suffix not in known:
        raise UserError(f"{name or path!r} ends in {Path(path).suffix!r}: known are {', '.join(known)}")


def file_version(path: str) -> list[str | int]:
    """Absolute path, size and time of change of a file; nothing if there is none."""
    file = Path(path)
    return [str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] if file.is_file() else []
