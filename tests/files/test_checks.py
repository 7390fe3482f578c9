"""Outputs are probed before work, files are checked against their checksums, small files are read within bounds."""

import os
import subprocess
from pathlib import Path

import pytest

from textdiff.errors import UserError
from textdiff.files import CHECKSUMS, as_path, check_checksums, probe_file, probe_folder, read_json, write_checksums


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    assert probe_file(tmp_path / "file") == tmp_path / "file"
    assert probe_file(tmp_path / "no" / "file") and probe_folder(tmp_path / "no" / "folder") and probe_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "old"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for probe, place, complaint in (
        (probe_folder, tmp_path / "file", "is no folder"),
        (probe_folder, tmp_path / "pipe", "is no folder"),
        (probe_folder, tmp_path / "circle", "is no folder"),
        (probe_folder, tmp_path / "file" / "in" / "it", r"cannot be written \(Not a directory\)"),
        (probe_folder, "/proc/nothing", "cannot be written"),
        (probe_folder, "x" * 300, "the name is too long"),
        (probe_folder, "", "name a file or a folder"),
        (probe_file, "a\0b", "name a file or a folder"),
        (probe_file, tmp_path, "is a folder: name a file"),
        (probe_file, tmp_path / "pipe", "is no plain file"),
        (probe_file, tmp_path / "circle", "is no plain file"),
        (probe_file, tmp_path / "file" / "x", r"cannot be written \(Not a directory\)"),
    ):
        with pytest.raises(UserError, match=complaint) as error:
            probe(place)
        assert "\n" not in str(error.value)
    for value in (5, None, [tmp_path], b"x"):
        with pytest.raises(TypeError, match=r"^folder is .*, expected a path"):
            as_path(value, "folder")


def test_a_flipped_bit_is_seen_here_and_by_sha256sum(tmp_path: Path) -> None:
    for name in ("weights", "config"):
        (tmp_path / name).write_bytes(b"content of " + name.encode())
    check_checksums(tmp_path)
    write_checksums(tmp_path, ["weights", "config"])
    check_checksums(tmp_path)
    assert subprocess.run(["sha256sum", "--check", "--quiet", CHECKSUMS], cwd=tmp_path).returncode == 0
    (tmp_path / "weights").write_bytes(b"Content of weights")
    with pytest.raises(UserError, match=r"^weights in .* is not the file that SHA256SUMS lists") as error:
        check_checksums(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("line", [b"\xff", b"x", b"0" * 64 + b"  ../secret", b"0" * 64 + b"  /etc/passwd"])
def test_damaged_checksums_are_one_line(line: bytes, tmp_path: Path) -> None:
    (tmp_path / CHECKSUMS).write_bytes(line + b"\n")
    with pytest.raises(UserError, match=r"SHA256SUMS in .* is damaged"):
        check_checksums(tmp_path)


@pytest.mark.parametrize(
    "content, complaint",
    [
        (b"", "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b"{", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b'{"a": ' * 100_000, "is damaged"),
        (b'{"a": 1, "a": 2}', "'a' is there twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is damaged"),
        (None, "has 34,359,738,368 bytes"),
    ],
)
def test_a_file_that_is_no_json_is_one_line(content: bytes | None, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content or b"")
    if content is None:
        os.truncate(path, 2**35)
    with pytest.raises(UserError, match=complaint) as error:
        read_json(path)
    assert "\n" not in str(error.value) and "config.json in" in str(error.value) and len(str(error.value)) < 400


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name in ("pipe", "circle", "."):
        with pytest.raises(UserError, match=r"no plain file|cannot be read"):
            read_json(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "nothing")
