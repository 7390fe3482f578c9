"""Ways to damage a checkpoint, an adapter or a tokenizer: a folder with JSON files and weights in safetensors."""

import json
import math
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

Damage = Callable[[Path], None]
"""Damages a folder in place."""


class FailsWhenUnpickled:
    """An object whose unpickling fails the test."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def change_json(path, **settings):
    """Change some settings of a JSON file; `...` deletes one."""
    content = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


VALUES = (
    ..., None, True, False, 0, 1, -1, 3, 1.5, 1e30, -1e30, math.nan, math.inf, 2**31, 4 * 10**9, 2**63, 2**70, 10**400,
    "", "x", "x" * 5000, "\0", "\ud800", "../../x", "auto", [], [1], ["x"], [[]], {}, {"x": 1}, {"x": {}}, _nested(300),
)  # fmt: skip
"""What a setting may be found to be; `...`: it is missing."""


def _at(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Nested JSON with another value at a path."""
    if not path:
        return value
    changed = content.copy()
    if len(path) == 1 and value is ...:
        del changed[path[0]]
    else:
        changed[path[0]] = _at(content[path[0]], path[1:], value)
    return changed


def _paths(content: Any, depth: int = 3, most: int = 12) -> Iterator[tuple[Any, ...]]:
    """The paths to all values of nested JSON; of long objects and lists the first ones."""
    if depth and isinstance(content, dict | list):
        for key in list(content)[:most] if isinstance(content, dict) else range(min(len(content), 2)):
            yield (key,)
            yield from ((key, *path) for path in _paths(content[key], depth - 1, most))


def setting(name: str, path: tuple[Any, ...], value: Any) -> Damage:
    """Another value at a path of the JSON file `name`."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(_at(content, path, value)), encoding="utf-8")

    return damage


def content(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Other bytes in the file `name`."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes())) and None


def _huge(folder: Path, name: str) -> None:
    os.truncate(folder / name, 2**36)


def _in_place_of(name: str, make: Callable[[Path], None]) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return damage


def files(name: str) -> dict[str, Damage]:
    """Ways to damage any file."""
    return {
        "removed": lambda folder: (folder / name).unlink(),
        "emptied": content(name, lambda old: b""),
        "zeros": content(name, lambda old: bytes(len(old))),
        "no UTF-8": content(name, lambda old: b"\xff\xfe\x00" + old),
        "a byte order mark": content(name, lambda old: b"\xef\xbb\xbf" + old),
        "text": content(name, lambda old: b"a secret text that is no checkpoint\n" * 50),
        "appended": content(name, lambda old: old + b"}{"),
        "huge": lambda folder: _huge(folder, name),
        "a folder": _in_place_of(name, lambda path: path.mkdir()),
        "a pipe": _in_place_of(name, lambda path: os.mkfifo(path)),
        "a circle of links": _in_place_of(name, lambda path: path.symlink_to(path)),
        "a link to nothing": _in_place_of(name, lambda path: path.symlink_to("nothing")),
        "a device": _in_place_of(name, lambda path: path.symlink_to("/dev/zero")),
        **{
            f"cut at {share}": content(name, lambda old, share=share: old[: int(share * len(old))])
            for share in (0.1, 0.5, 0.9)
        },
    }


def json_files(name: str, folder: Path) -> Iterator[tuple[str, Damage]]:
    """Ways to damage a JSON file: another structure, and other values wherever there is one."""
    for what, text in {
        "a list": b"[1]", "a number": b"1", "null": b"null", "nothing": b"{}", "no end": b'{"a": ',
        "deep lists": b"[" * 200_000, "deep objects": b'{"a":' * 200_000,
        "a key twice": b'{"model_type": "x", "model_type": "textdiff"}',
    }.items():  # fmt: skip
        yield what, content(name, lambda old, text=text: text)
    for path in _paths(json.loads((folder / name).read_text(encoding="utf-8"))):
        for value in VALUES:
            yield f"{'.'.join(map(str, path))} = {value!r:.30}", setting(name, path, value)


def _header(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def changed(old: bytes) -> bytes:
        size = struct.unpack("<Q", old[:8])[0]
        header = json.dumps(change(json.loads(old[8 : 8 + size]))).encode()
        return struct.pack("<Q", len(header)) + header + old[8 + size :]

    return changed


def _first(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[bytes], bytes]:
    """Change what the header says about the first tensor."""

    def changed(header: dict[str, Any]) -> dict[str, Any]:
        name = next(name for name in header if name != "__metadata__")
        return header | {name: header[name] | change(header[name])}

    return _header(changed)


def _tensors(change: Callable[[torch.Tensor], torch.Tensor], name: str) -> Damage:
    def damage(folder: Path) -> None:
        tensors = {key: value.clone() for key, value in load_file(folder / name).items()}
        key = max(tensors)
        save_file(tensors | {key: change(tensors[key]).contiguous()}, folder / name)

    return damage


def weights(name: str) -> dict[str, Damage]:
    """Ways to damage a file of weights."""
    length = {
        size: content(name, lambda old, size=size: struct.pack("<Q", size) + old[8:])
        for size in (0, 1, 2**20, 2**63, 2**64 - 1)
    }
    return {
        **{f"a header of {size} bytes": damage for size, damage in length.items()},
        "a header that is a list": content(name, _header(lambda header: [header])),
        "a deep header": content(name, lambda old: struct.pack("<Q", 200_000) + b"[" * 200_000),
        "an empty header": content(name, _header(lambda header: {})),
        "metadata that is a number": content(name, _header(lambda header: header | {"__metadata__": 5})),
        "a huge shape": content(name, _first(lambda entry: {"shape": [2**40, 2**40]})),
        "a negative shape": content(name, _first(lambda entry: {"shape": [-1]})),
        "another type": content(name, _first(lambda entry: {"dtype": "I8"})),
        "no type": content(name, _first(lambda entry: {"dtype": "X"})),
        "places beyond the end": content(name, _first(lambda entry: {"data_offsets": [0, 2**50]})),
        "places that overlap": content(name, _first(lambda entry: {"data_offsets": [8, 4]})),
        "not a number": _tensors(lambda value: value * math.nan, name),
        "infinite": _tensors(lambda value: value + math.inf, name),
        "whole numbers": _tensors(lambda value: value.long(), name),
        "too large for float32": _tensors(lambda value: value.double() + 1e300, name),
        "transposed": _tensors(lambda value: value[None], name),
        "of no size": _tensors(lambda value: value[:0], name),
    }  # fmt: skip


def damages(folder: Path) -> Iterator[tuple[str, Damage]]:
    """All systematic ways to damage a folder, with names; its checksums are deleted, so that they do not notice first.

    Args:
        folder: of a checkpoint, an adapter or a tokenizer; it is not changed.
    """
    for name in sorted(path.name for path in folder.iterdir()):
        if name.endswith((".json", ".safetensors")):
            found = [*files(name).items()]
            found += json_files(name, folder) if name.endswith(".json") else weights(name).items()
            for what, damage in found:
                yield f"{name}: {what}", _unlisted(damage)


def random_damages(folder: Path, count: int, seed: int = 0) -> Iterator[tuple[str, Damage]]:
    """So many random flips of bits, cuts, repetitions and values anywhere in the files of a folder."""
    chance = random.Random(seed)
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    for number in range(count):
        name, kind = chance.choice(names), chance.randrange(4)
        size = (folder / name).stat().st_size
        at = chance.randrange(min(size, 3000) if chance.random() < 0.7 else size)
        bit, length = 1 << chance.randrange(8), chance.randrange(1, 64)
        change = (
            lambda old, at=at, bit=bit: old[:at] + bytes([old[at] ^ bit]) + old[at + 1 :],
            lambda old, at=at: old[:at],
            lambda old, at=at, length=length: old[: at + length] + old[at:],
            lambda old, at=at, length=length: old[:at] + old[at + length :],
        )[kind]
        yield f"{name}: random {number}", _unlisted(content(name, change))


def _unlisted(damage: Damage) -> Damage:
    def unlisted(folder: Path) -> None:
        (folder / "SHA256SUMS").unlink(missing_ok=True)
        damage(folder)

    return unlisted


def copy_of(folder: Path, place: Path) -> Path:
    """A copy of a folder, in place of whatever was there."""
    if place.is_dir():
        shutil.rmtree(place)
    return shutil.copytree(folder, place)
