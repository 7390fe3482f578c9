"""Rows of files to fill: each row is filled or has an error of its own, and none is lost."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.helpers.campaign.case import Case, Result
from tests.helpers.campaign.materials import ODD, damaged, template
from tests.helpers.campaign.world import World, predict_config
from textdiff.cli import main

LINES: tuple[bytes, ...] = (
    b"{", b"}", b"[]", b"null", b"1", b'"x"', b"{}", b'{"text": null}', b'{"text": 1}', b'{"text": ["a [gap:1]"]}',
    b"\xff\xfe", b"\0",
    b'{"text": "a [gap:1]", "text": "b [gap:1]"}', b'{"text": "a [gap:1] \\ud800"}', b'{"text": "a [gap:1]", "n": NaN}',
    b'{"text": "a [gap:1]", "n": 1e999}', b'{"text": "a [gap:1]", "n": ' + b"9" * 5000 + b"}",
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b'{"text": "a [gap:1]", "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"text": "[gap:999999] x "}',
    b'{"text": "\\\\\\\\[gap:1]"}',
    b'{"text": "a [gap:1]", "template": 1, "seed": 2, "error": 3}', b'{"text": "' + b"\\\\" * 40_000 + b'[gap:1]"}',
    b'{"text": "a [gap:1]", "__class__": {"__reduce__": "executed"}}', "{“text”: 1}".encode(),
    b'{"text": "' + b"x " * 20_000 + b'[gap:1]"}',
)  # fmt: skip


def rows(random: Random, world: World) -> Case:
    """`textdiff predict` on a file of some good and some bad rows, or on a damaged file."""
    form = random.choice(("jsonl", "jsonl", "jsonl", "txt", "csv", "jsonl.gz", "parquet"))
    count, whole = random.randint(1, 10), random.random() < 0.8 and form != "parquet"
    lines = [_line(random, form) for _ in range(count)]
    content = b"\n".join(lines) + (b"\n" if random.random() < 0.8 else b"")
    if not whole:
        content = damaged(random, _parquet(lines) if form == "parquet" else content)
    if form.endswith(".gz"):
        content = gzip.compress(content, mtime=0)
        content = content if whole else damaged(random, content)
    to = random.choice(("filled.jsonl", "filled"))

    def prepare() -> None:
        Path(f"rows.{form}").write_bytes(content)
        Path("config.yaml").write_text(yaml.safe_dump(predict_config(world, f"rows.{form}", to)))

    def check(result: Result) -> str | None:
        if result.status:
            return "a refusal, and rows were written" if any(result.folder.glob("filled*/0*.jsonl")) else None
        files = [result.folder / to] if to.endswith("jsonl") else sorted((result.folder / to).glob("0*.jsonl"))
        try:
            found = [json.loads(line) for file in files for line in file.read_text().split("\n")[:-1]]
        except (OSError, ValueError) as error:
            return f"status 0, and the rows cannot be read: {error}"
        if any(("samples" in row) == ("error" in row) for row in found):
            return "a row has both samples and an error, or neither"
        wanted = len([line for line in lines if line.strip()])
        return (
            f"{wanted} rows went in, {len(found)} came out"
            if whole and form.startswith("jsonl") and len(found) != wanted
            else None
        )

    return Case(
        f"textdiff predict on {content[:300]!r} as {form}",
        lambda: main(["predict", "--config", "config.yaml"]),
        prepare,
        check,
    )


def _line(random: Random, form: str) -> bytes:
    good = random.random() < 0.5
    text = random.choice(("Lily [gap:1] ball.", "Tom saw [gap:2].", "a [gap:1-2] b")) if good else template(random)
    if form == "txt" or form == "csv":
        return text.replace("\n", " ").encode(errors="replace")
    if not good and random.random() < 0.6:
        line = random.choice(LINES)
        return damaged(random, line).replace(b"\n", b" ") if random.random() < 0.3 else line
    row: dict[str, Any] = {"id": random.choice((1, "001", None, [1], {"a": 1}, 2**70, 0.1)), "text": text}
    row |= {random.choice((*ODD, "x")): random.choice(ODD)} if random.random() < 0.3 else {}
    return json.dumps(row).encode()


def _parquet(lines: list[bytes]) -> bytes:
    import io

    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["Lily [gap:1] ball."] * len(lines)}), out)
    return out.getvalue()
