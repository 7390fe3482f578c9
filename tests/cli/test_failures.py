"""Whatever ends a command: one short line on standard error, and the exit status that goes with it."""

import errno
import logging
import sys
from typing import TextIO

import pytest

import textdiff.inference
from tests.helpers.commands import TEXT, Run, raiser
from textdiff import cli
from textdiff.errors import MOST_CHARACTERS, UserError, one_line


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("say what"), 2, "say what"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.txt"), 2, "'a.txt': No such file"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
        (OSError("no route\nto the Hub"), 1, "no route to the Hub"),
        (RecursionError("maximum recursion depth exceeded"), 1, "something in the input is nested too deeply"),
        (SystemExit("a library\ngives up"), 1, "a library gives up"),
        (ZeroDivisionError("a bug"), 1, "a mistake in textdiff itself (ZeroDivisionError: a bug): TEXTDIFF_TRACEBACK"),
        (AssertionError(), 1, "a mistake in textdiff itself (AssertionError: )"),
        (KeyError("\ud800"), 1, "a mistake in textdiff itself (KeyError: '\\ud800')"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_each_takes_one_line(
    error: BaseException, status: int, line: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textdiff.inference, "infill", raiser(error))
    monkeypatch.delenv("TEXTDIFF_TRACEBACK", raising=False)
    out, err = run("infill", TEXT, status=status)
    assert not out and err.count("\n") == 1
    assert err.startswith(f"textdiff: {line}")


@pytest.mark.parametrize(("code", "status"), [(None, 0), (0, 0), (3, 3)])
def test_a_library_that_exits_is_not_commented_on(
    code: int | None, status: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textdiff.inference, "infill", raiser(SystemExit(code)))
    assert run("infill", TEXT, status=status) == ("", "")


def test_the_traceback_is_there_for_whoever_asks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textdiff.inference, "infill", raiser(ZeroDivisionError("a bug")))
    monkeypatch.setenv("TEXTDIFF_TRACEBACK", "1")
    _, err = run("infill", TEXT, status=1)
    assert err.startswith("Traceback (most recent call last):\n") and "ZeroDivisionError: a bug\n" in err


def test_what_libraries_write_comes_before_no_error_and_is_not_lost_without_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chatter(*arguments: object) -> None:
        print("loading", file=sys.stderr)

    infill = textdiff.inference.infill
    monkeypatch.setattr(textdiff.inference, "infill", lambda *a, **k: (chatter(), raiser(UserError("no"))()))
    assert run("infill", TEXT, status=2) == ("", "textdiff: no\n")
    monkeypatch.setattr(textdiff.inference, "infill", lambda *a, **k: (chatter(), infill(*a, **k))[1])
    out, err = run("infill", TEXT)
    assert out and err.startswith("loading\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["x" * 50_000],
        ["infill", "x " * 50_000],
        ["infill", TEXT, "--checkpoint", "y/" * 40_000],
        ["infill", TEXT, "--policy", "z" * 50_000],
        ["infill", TEXT, "--n", "9" * 50_000],
        ["infill", f"[gap:{'9' * 9000}]"],
        ["infill", TEXT, "--regex", "(" * 30_000],
        ["infill", "a\nb", "--checkpoint", "c\nd\x1b[31m\x07\u2028\u202e"],
        ["infill", TEXT, "--dtype", "\x1b]0;title\x07"],
        ["\x1b[2J\r\n"],
    ],
    ids=lambda arguments: " ".join(map(ascii, arguments))[-30:],
)  # fmt: skip
def test_long_and_unprintable_values_make_a_short_line(arguments: list[str], run: Run) -> None:
    _, err = run(*arguments, status=2)
    assert err.startswith("textdiff: ") and err.endswith("\n")
    assert len(err) <= 700 and err[:-1].isprintable()


def test_of_a_long_message_the_values_are_cut_first() -> None:
    message = f"no model {'a' * 900!r} in {'b' * 900}: give a folder"
    short = one_line(message)
    assert len(short) <= MOST_CHARACTERS
    assert short.startswith("no model 'aaa") and "..." in short and short.endswith("b: give a folder")
    assert str(UserError(message)) == short
    assert one_line("word " * 900).endswith("word word") and len(one_line("word " * 900)) == MOST_CHARACTERS
    assert one_line(" two\n\n  lines\t\x00\ud800é") == "two lines\\t\\x00\\ud800é"


def test_nothing_of_a_command_stays_in_the_process(run: Run) -> None:
    before = sys.stderr, sys.unraisablehook
    run("infil", status=2)
    assert (sys.stderr, sys.unraisablehook) == before
    assert cli.main(["--version"]) == 0


def test_the_shell_is_not_advised_in_python(run: Run) -> None:
    error = UserError("give the length, as in [gap:8]", python=", or draw with ByLength()")
    assert (str(error), error.plain) == (
        "give the length, as in [gap:8], or draw with ByLength()",
        "give the length, as in [gap:8]",
    )
    _, err = run("infill", TEXT, "--policy", "remasking", "--contains", "dog", status=2)
    assert "do not heed constraints: choose a diffusion prior" in err and "Importance" not in err


def test_a_logger_that_an_earlier_command_made_is_held_back_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[logging.StreamHandler[TextIO]] = []

    def log(*arguments: object, **options: object) -> None:
        if not made:
            made.append(logging.StreamHandler())
        made[0].emit(logging.makeLogRecord({"msg": "unexpected keys"}))
        raise UserError("no")

    monkeypatch.setattr(textdiff.inference, "infill", log)
    for _ in range(3):
        assert run("infill", TEXT, status=2) == ("", "textdiff: no\n")
