"""Files and folders are whole or not there, whatever happens; leftovers of dead processes are deleted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.full_disk import full_disk
from textdiff.errors import UserError
from textdiff.files import atomically, finish, tidy, whole_folder, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def bytes_(place: Path) -> None:
    with atomically(place) as file:
        file.write(b"new" * 10_000)


def tensors(place: Path) -> None:
    with atomically(place) as file:
        torch.save({"a": torch.zeros(10_000)}, file)


@pytest.mark.parametrize("write", [bytes_, tensors])
def test_a_full_disk_leaves_the_old_file(write, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    complaint = r"file' cannot be written \(File too large\): what was there before"
    with full_disk(), pytest.raises(UserError, match=complaint) as error:
        write(tmp_path / "file")
    assert "\n" not in str(error.value)
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_the_old_folder(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    if there:
        folder.mkdir()
        (folder / "weights").write_bytes(b"old")
    complaint = r"folder' cannot be written \(File too large\)"
    with full_disk(), pytest.raises(UserError, match=complaint), whole_folder(folder) as part:
        (part / "weights").write_bytes(b"new")
        save_file({"a": torch.zeros(10_000)}, part / "more")
    assert names(tmp_path) == (["folder"] if there else [])
    assert not there or (names(folder) == ["weights"] and (folder / "weights").read_bytes() == b"old")


def test_a_folder_appears_at_once_or_keeps_its_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with whole_folder(folder) as part:
        (part / "a").write_text("1")
        assert not folder.exists()
    with whole_folder(folder) as part:
        for name in ("a", "b", "sums"):
            (part / name).write_text("2")
        assert (folder / "a").read_text() == "1"
    (folder / "mine").write_text("3")
    with pytest.raises(ZeroDivisionError), whole_folder(folder) as part:
        (part / "a").write_text("half")
        raise ZeroDivisionError
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "2", "b": "2", "sums": "2", "mine": "3"}


@pytest.mark.parametrize("done", [0, 1, 2])
def test_what_a_kill_leaves_undone_is_finished(done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / name).write_text("old")
    replace, moved = Path.replace, []

    def killed(path: Path, target: Path) -> Path:
        if len(moved) == done:
            raise KeyboardInterrupt
        moved.append(target)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path) as part:
        for name in "abc":
            (part / name).write_text("new")
    monkeypatch.undo()
    assert sum((tmp_path / name).read_text() == "new" for name in "abc") == done
    finish(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys("abc", "new")


def test_a_link_to_another_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for link in (".x.01234567.ready", ".x.01234567.part"):
        (tmp_path / "folder" / link).symlink_to(tmp_path / "mine")
    finish(tmp_path / "folder")
    tidy(tmp_path / "folder")
    assert names(tmp_path / "mine") == ["file"] and len(names(tmp_path / "folder")) == 2


def test_a_folder_that_stands_in_the_way_of_a_file_is_found_before_anything_is_moved(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match="b' is a folder, and a file has to be there"), whole_folder(tmp_path) as part:
        (part / "a").write_text("1")
        (part / "b").write_text("1")
    assert names(tmp_path) == ["b"]


def test_a_link_stays_one_and_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "text"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for place in (tmp_path / "pipe", tmp_path, tmp_path / "circle", Path(os.devnull)):
        with pytest.raises(UserError, match="is no plain file"), atomically(place):
            pass
    assert not Path(os.devnull).is_file()


KILLED = """
import os, signal, sys
from pathlib import Path
from textdiff.files import atomically, whole_folder
with atomically(Path(sys.argv[1], "file")) as file, whole_folder(Path(sys.argv[1], "folder")) as part:
    file.write(b"half")
    file.flush()
    (part / "half").write_text("half")
    print("written", flush=True)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def test_leftovers_of_dead_processes_are_deleted_and_those_of_live_ones_are_not(tmp_path: Path) -> None:
    for fate in ("die", "live"):
        done = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path), fate], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert done.stdout is not None and done.stdout.readline() == b"written\n"
        if fate == "die":
            assert done.wait() == -signal.SIGKILL and len(names(tmp_path)) == 2
            for part in tmp_path.iterdir():
                os.utime(part, (0, 0))
    (tmp_path / ".mine.part").write_text("of another program")
    for part in tmp_path.iterdir():
        os.utime(part, (0, 0))
    tidy(tmp_path)
    assert len(names(tmp_path)) == 3
    done.communicate(b"")
    assert names(tmp_path) == [".mine.part", "file", "folder"] and (tmp_path / "file").read_bytes() == b"half"
