"""YAML that anybody may have written: read once and within bounds, as data alone, and never repeated in a message."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePath
from select import select
from typing import Any, NoReturn, final
from unittest.mock import patch

import yaml
from jsonargparse import get_loader, set_loader, set_parsing_settings
from jsonargparse.typing import Path

from textdiff.errors import UserError

MODE = "bounded-yaml"
"""The mode of the parsers that read YAML by `load`."""

MOST_BYTES, MOST_DEPTH, MOST_VALUES, MOST_DIGITS = 2**20, 60, 100_000, 300
"""Of a configuration; nested levels and values are counted with those that aliases repeat."""

_WRITER_STARTS, _WRITER_PAUSES = 0.5, 20.0
"""Seconds that a pipe may take to have a writer, and that the writer may be silent."""


def load(text: str, path: str | None = None) -> Any:
    """The value that a text in YAML holds, for a parser of the mode `MODE`.

    Args:
        text: a whole configuration, or the value of an option.
        path: the name of the configuration, empty for one that is given in place of a file; None: `text` is a value.

    Raises:
        UserError: the text is no configuration.
        yaml.YAMLError: it is no value.
    """
    try:
        _check(text, whole=path is not None)
        value = get_loader("yaml")(text)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        if path is None:
            raise error if isinstance(error, yaml.YAMLError) else yaml.YAMLError(_in_words(error)) from error
        raise UserError(f"{_named(path)} cannot be read: {_in_words(error)}") from error
    if path is not None and not isinstance(value, dict):
        raise UserError(
            f"{_named(path)} is no configuration: expected YAML with options by name, such as configs/custom-text.yaml"
        )
    return value


set_loader(MODE, load, (yaml.YAMLError,))


def _named(path: str) -> str:
    return repr(path[-200:]) if path else "the configuration on the command line"


def _in_words(error: Exception) -> str:
    """What is wrong and where, without the text itself."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return where + (problem or str(error).splitlines()[0])[:200]


@final
@dataclass
class _Open:
    """A collection whose end has not been reached.

    Attributes:
        mark: where it starts.
        is_mapping: whether it is a mapping, in which keys and values take turns.
        anchor: its name for aliases.
        values, depth: of what was read so far.
        keys: those of a mapping that are plain text.
        key: the last one, if its value comes next.
    """

    mark: Any
    is_mapping: bool
    anchor: str | None
    values: int = 1
    depth: int = 1
    keys: set[str] = field(default_factory=set)
    key: str | None = None
    expects_key: bool = True


def _check(text: str, whole: bool) -> None:
    """Check that a text is plain YAML within the bounds, in time linear in its length.

    Raises:
        yaml.YAMLError: it is not.
    """
    if len(text) > MOST_BYTES:
        raise yaml.YAMLError(f"it has {len(text):,} characters, expected at most {MOST_BYTES:,}")
    open_: list[_Open] = []
    anchors: dict[str, tuple[int, int] | None] = {}
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if getattr(event, "tag", None) is not None:
            _refuse(f"the tag {event.tag[:60]!r}: write the value without a tag", event)
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_) >= MOST_DEPTH:
                _refuse(f"more than {MOST_DEPTH} levels", event)
            open_.append(_Open(event.start_mark, isinstance(event, yaml.MappingStartEvent), event.anchor))
            if event.anchor:
                anchors[event.anchor] = None
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            done = open_.pop()
            size = done.values, done.depth
            if done.anchor:
                anchors[done.anchor] = size
            name = None
        elif isinstance(event, yaml.AliasEvent):
            if (found := anchors.get(event.anchor, (1, 1))) is None:
                _refuse(f"the alias {event.anchor[:60]!r} stands in what it stands for", event)
            size, name = found, None
        elif isinstance(event, yaml.ScalarEvent):
            size, name = (1, 1), event.value
            _check_scalar(event, open_, whole)
            if event.anchor:
                anchors[event.anchor] = size
        else:
            continue
        if open_:
            _add(open_[-1], size, name, event)


def _check_scalar(event: yaml.ScalarEvent, open_: list[_Open], whole: bool) -> None:
    plain = event.implicit[0]
    if "\0" in event.value:
        _refuse("a text with a null character", event)
    if plain and len(event.value) > MOST_DIGITS and event.value[0] in "+-.0123456789":
        _refuse(f"a number of {len(event.value):,} digits", event)
    if whole and plain and event.value == "" and open_ and not (open_[-1].is_mapping and open_[-1].expects_key):
        key = f"{open_[-1].key[:60]!r}" if open_[-1].key else "an item"
        _refuse(f"{key} has no value: give one, or null if none is meant", event)


def _add(collection: _Open, size: tuple[int, int], name: str | None, event: Any) -> None:
    """Count a value, or a key, of a collection."""
    collection.values += size[0]
    collection.depth = max(collection.depth, size[1] + 1)
    if collection.values > MOST_VALUES or collection.depth > MOST_DEPTH:
        _refuse(f"more than {MOST_VALUES:,} values or {MOST_DEPTH} levels, with those that aliases repeat", event)
    if not collection.is_mapping:
        return
    if collection.expects_key:
        if name is not None and name in collection.keys and name != "<<":
            _refuse(f"the key {name[:60]!r} occurs twice", event)
        collection.keys.add(name or "")
        collection.key = name
    collection.expects_key = not collection.expects_key


def _refuse(problem: str, event: Any) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


@contextmanager
def reading_once(arguments: Sequence[str]) -> Iterator[None]:
    """A context in which parsers read each file of a configuration once, by `read`, and nothing from the network.

    Args:
        arguments: of the command, whose `--config` may name any file or pipe. Where an option stands for a file of
            further options, its name ends in `.yaml`, `.yml` or `.json`: any other file is a value.
    """
    configs = {word for option, word in pairwise(["", *arguments]) if option in ("--config", "-c")}
    configs |= {word.removeprefix("--config=") for word in arguments if word.startswith("--config=")}
    known: dict[str, str] = {}

    def read_text(path: Any) -> str:
        name, given = path.absolute, str(path)
        if given not in configs and PurePath(given).suffix not in (".yaml", ".yml", ".json"):
            raise UserError(f"{_named(given)} is no YAML file: write a list of files in brackets, as in [FILE, FILE]")
        if name not in known:
            known[name] = read("/dev/stdin" if given == "-" else name)
        return known[name]

    set_parsing_settings(config_read_mode_fsspec_enabled=False)
    with patch.object(Path, "read_text", read_text):
        yield


def read(path: str) -> str:
    """The text of a file or a pipe.

    Raises:
        UserError: it is neither, or too large, or not in UTF-8; or nobody writes to the pipe.
    """
    try:
        place = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise UserError(f"{_named(path)} cannot be read ({error.strerror})") from error
    try:
        kind = os.fstat(place).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
            raise UserError(f"{_named(path)} is no file: give the path of a YAML file")
        content = _read(place, path)
    finally:
        os.close(place)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{_named(path)} is no text in UTF-8 (line {line}): give a YAML file in UTF-8") from error


def _read(place: int, path: str) -> bytes:
    """All bytes of an open file, which may be a pipe whose writer takes its time."""
    content = b""
    patience, is_pipe = time.monotonic() + _WRITER_STARTS, stat.S_ISFIFO(os.fstat(place).st_mode)
    while len(content) <= MOST_BYTES:
        try:
            chunk = os.read(place, MOST_BYTES)
        except BlockingIOError:  # there is a writer
            if not select([place], [], [], _WRITER_PAUSES)[0]:
                raise UserError(f"nothing is written to the pipe {_named(path)}: give a YAML file") from None
            continue
        content += chunk
        if not chunk:
            if content or not is_pipe:
                return content
            if time.monotonic() > patience:
                raise UserError(f"nobody writes to the pipe {_named(path)}: give a YAML file")
            time.sleep(0.01)
    raise UserError(f"{_named(path)} has more than {MOST_BYTES:,} bytes: give a YAML file")
