"""Streams that are closed, full or unread, and terminals of odd sizes: nothing is lost, and nothing hangs."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import TEXT, Run
from tests.helpers.tree import ROOT
from textdiff import cli

FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")


def shell(line: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a line of sh, in which `textdiff` is the command line."""
    command = f'textdiff() {{ {sys.executable} -m textdiff "$@"; }}; {line}'
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("line", "status", "error"),
    [
        ("textdiff --help >&-", 1, "standard output is closed"),
        ("textdiff --help >&- 2>&-", 1, None),
        ("textdiff --help 1</dev/null", 1, "standard output is open for reading only"),
        pytest.param("textdiff --help >/dev/full", 1, "'standard output': No space left on device", marks=FULL),
        pytest.param("textdiff --help >/dev/full 2>&1", 1, None, marks=FULL),
        pytest.param("textdiff infil 2>/dev/full", 2, None, marks=FULL),
        ("textdiff infil 2>&-", 2, None),
        ("textdiff infill 'a [gap' <&-", 2, "malformed gap marker"),
        ("textdiff infill - <&-", 2, "standard input is closed"),
        ("textdiff infill - </dev/null", 2, "the text is empty"),
    ],
)
def test_a_stream_that_cannot_be_used(line: str, status: int, error: str | None) -> None:
    code, _, err = shell(line)
    assert code == status
    assert err == "" if error is None else re.fullmatch(f"textdiff: .*{error}.*\n", err)


def test_without_standard_error_the_answer_is_there() -> None:
    assert shell("textdiff --version 2>&- <&-")[:2] == (0, f"textdiff {cli_version()}\n")


def cli_version() -> str:
    from textdiff import __version__

    return __version__


def test_a_reader_that_goes_away_is_no_error() -> None:
    end, start = os.pipe()
    os.close(end)
    command = [sys.executable, "-m", "textdiff", "--help"]
    with open(start, "w") as nobody:
        done = subprocess.run(command, cwd=ROOT, stdout=nobody, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_closed_stream_is_not_the_next_file_that_is_opened(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfor number in range(3): os.close(number)\n"
        "sys.stdin = sys.stdout = sys.stderr = None\nfrom textdiff.cli import main\n"
        f"status = main(['--help'])\nfile = open({str(tmp_path / 'x')!r}, 'w')\n"
        "file.write(f'{status} {file.fileno()}')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=True)
    status, number = map(int, (tmp_path / "x").read_text().split())
    assert status == 1 and number > 2


@pytest.mark.parametrize("columns", ["0", "1", "39", "-7", "1000000000", "9" * 5000, "abc", "", "1.5", "²", "٣"])
def test_a_terminal_of_any_size_shows_the_whole_fill(
    columns: str, run: Run, answer: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (fill,) = answer(TEXT, "--seed", "1")["fills"][0]
    for name in ("COLUMNS", "LINES"):
        monkeypatch.setenv(name, columns)
    for more in ([], ["--baseline", "--show-steps"]):
        out, _ = run("infill", TEXT, "--seed", "1", *more)
        assert max(map(len, out.splitlines())) <= 1000
        assert not re.search(r"\w", fill) or letters(fill)[:30] in letters(out)
        assert run("infill", "--help")[0]


def letters(text: str) -> str:
    return re.sub(r"[^\w]", "", text)


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": ""}, {"TERM": "no-such"}, {"NO_COLOR": "1"}])
def test_a_terminal_without_abilities(variables: dict[str, str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run("infill", TEXT, "--seed", "1")[0].partition("\n")[0]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run("infill", TEXT, "--seed", "1")[0].startswith(expected)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_json_in_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    text = "Zoë saw 🐈 at the café. [gap:2-4] The end."
    assert cli.main(["infill", text, "--seed", "1", "--json"]) == 0
    parsed = json.loads(raw.getvalue().decode(encoding))
    assert parsed["text"] == text and parsed["texts"][0].startswith("Zoë saw 🐈 at the café.")


def test_words_are_utf8_in_every_locale(answer: Callable[..., dict[str, Any]]) -> None:
    as_ascii = "Zoë ran. [gap:2] 🐈".encode().decode("ascii", "surrogateescape")
    assert answer(as_ascii, "--seed", "1")["text"] == "Zoë ran. [gap:2] 🐈"
    assert answer("a [gap:4-8]", "--contains", "é".encode().decode("ascii", "surrogateescape"))["texts"]
