"""What sources that are files have in common: names, patterns, endings, compression, encoding."""

from __future__ import annotations

import bz2
import codecs
import glob
import gzip
import io
import lzma
import os
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from textdiff.errors import UserError
from textdiff.pretrained.packaged import packaged

TEXT, LINES = (".txt",), (".jsonl", ".ndjson")
TABLES = (".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather")
"""Endings of files, to which that of a compression may be added."""


def _zstd(path: str) -> io.BufferedReader:
    import pyarrow

    return io.BufferedReader(pyarrow.input_stream(path, compression="zstd"))


COMPRESSIONS: dict[str, Callable[[str], Any]] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _zstd,
}
"""How a compressed file is opened, by the end of its name."""

WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""Byte order marks of encodings other than UTF-8; the first two bytes of UTF-32 are those of UTF-16."""


def matching(pattern: str) -> list[str]:
    """The files that a name or a shell pattern (`*`, `?`, `[...]`, `~`) means, sorted.

    A file of exactly this name wins over a pattern. Where there is no file the name is returned as it is.
    """
    if os.path.lexists(pattern):
        return [pattern]
    path = str(packaged(os.path.expanduser(pattern)))
    if os.path.lexists(path):
        return [path]
    return sorted(filter(os.path.isfile, glob.glob(path))) or [path if glob.has_magic(path) else pattern]


def ending(path: str) -> str:
    """The ending of a file's name in small letters, without that of a compression: .jsonl of a/b.JSONL.gz."""
    name, last = os.path.splitext(os.path.basename(path).lower())
    return os.path.splitext(name)[1] if last in COMPRESSIONS else last


def check_file(path: str, name: str | None = None, known: Collection[str] = ()) -> None:
    """Check that a file exists and that its name has one of the endings `known`, if there are any.

    Raises:
        UserError: it does not; about the source `name`, by default the path.
    """
    if not os.path.isfile(path):
        if os.path.isdir(path):
            raise UserError(f"no text file at {path!r}, which is a folder: name its files, as by {path + '/*.txt'!r}")
        raise UserError(
            f"no text file at {str(Path(path))!r}: give the path of a .txt, .jsonl, .csv or .parquet file, "
            "or hub:owner/name"
        )
    if known and ending(path) not in known:
        raise UserError(f"{name or path!r} ends in {ending(path)!r}: known are {', '.join(known)}")


def file_version(path: str) -> list[str | int]:
    """Absolute path, size and time of change of a file; nothing if there is none."""
    file = Path(path)
    return [str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] if file.is_file() else []


def opened(path: str) -> BinaryIO:
    """A file, decompressed as the end of its name says; an empty one is empty whatever it is called."""
    compression = os.path.splitext(path)[1].lower() if os.path.getsize(path) else ""
    file: BinaryIO = COMPRESSIONS.get(compression, partial(open, mode="rb"))(path)
    return file


def lines(path: str, newline: str | None = None, *, escape: bool = False) -> Iterator[str]:
    """The lines of a text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, which is left out.

    Args:
        path: of the file, which may be compressed.
        newline: as in `open`.
        escape: bytes that are not UTF-8 become surrogates, see `unescaped`, in place of an error.

    Raises:
        UserError: a byte is not UTF-8; the message says where it is.
    """
    with opened(path) as file:
        head = file.read(4)
    wide = next((mark for mark in WIDE_MARKS if head.startswith(mark)), None)
    encoding = "utf-8-sig" if wide is None else "utf-32" if len(wide) == 4 else "utf-16"
    errors = "surrogateescape" if escape and wide is None else "strict"
    with opened(path) as file, io.TextIOWrapper(file, encoding, errors, newline) as text:
        try:
            yield from text
        except UnicodeDecodeError as error:
            where = _undecodable(path) if wide is None else f"its bytes are not {encoding.upper()}"
            raise UserError(f"{path!r} cannot be read: {where}; convert it to UTF-8") from error


def unescaped(text: str) -> str | None:
    """A text that `lines` has escaped, with its bytes spelt out as \\\\xe9; None: nothing in it was escaped."""
    if text.isascii():
        return None
    spelt = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return spelt if spelt != text else None


def _undecodable(path: str) -> str:
    """The first byte that is not UTF-8, in words."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    start, line = 0, 1
    with opened(path) as file:
        while True:
            chunk = file.read(1 << 20)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                place = start + len(chunk) - len(error.object) + error.start
                line += error.object[: error.start].count(b"\n")
                return f"byte 0x{error.object[error.start]:02x} in line {line} (position {place}) is not UTF-8"
            if not chunk:
                return "a byte is not UTF-8"
            start, line = start + len(chunk), line + chunk.count(b"\n")
