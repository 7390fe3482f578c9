"""Files are read as they are written, whatever they are called and whatever else stands in them."""

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from transformers import PreTrainedTokenizerBase

from textdiff.data import Shards, TextDataModule, TextFile, load_corpus
from textdiff.data.sources import check_sources, documents, parse_sources, templates
from textdiff.errors import UserError


def texts(path: Path | str, field: str = "text") -> list[str]:
    return list(documents([str(path)], field))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "name", ["held[1].jsonl", "a*.jsonl", "what?.jsonl", "[!x].jsonl", "~.jsonl", "a b#%&{}.jsonl"]
)
def test_a_file_is_found_by_its_name_whatever_is_in_it(name: str, tmp_path: Path) -> None:
    for other in ("held1.jsonl", "ab.jsonl", "what1.jsonl", "y.jsonl"):
        write(tmp_path / other, '{"text": "another"}')
    assert texts(write(tmp_path / name, '{"text": "mine"}')) == ["mine"]


def test_a_shell_pattern_names_files_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.txt", "a.txt", "c.md"):
        write(tmp_path / name, name)
    (tmp_path / "folder.txt").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert texts(f"{tmp_path}/*.txt") == texts("~/[ab].txt") == ["a.txt", "b.txt"] and texts("~/b.txt") == ["b.txt"]
    assert [source.name for source in parse_sources(["~/?.txt", TextFile("c")])] == [
        f"{tmp_path}/a.txt",
        f"{tmp_path}/b.txt",
        "c",
    ]
    with pytest.raises(UserError, match=r"no text file at .*none\*\.txt"):
        check_sources([f"{tmp_path}/none*.txt"])
    for wrong in ("a.txt", tmp_path, TextFile("a.txt"), None):
        with pytest.raises(TypeError, match=r"sources is .*, expected a list of sources"):
            list(documents(wrong))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"train is .*, expected a list of sources"):
            TextDataModule(train=wrong, tokenizer="world:hmm")  # type: ignore[arg-type]


def test_cells_are_no_guesses(tmp_path: Path) -> None:
    cells = ["001", "NA", "null", "None", "n/a", "NaN", "TRUE", "1e5", "", "2020-01-01", " x ", "-0", "1_000"]
    rows = "".join(f"{number},{cell}\n" for number, cell in enumerate(cells))
    path = write(tmp_path / "a.csv", f"id,text\n{rows}")
    assert texts(path) == [cell.strip() for cell in cells if cell]
    assert texts(path, "id") == [str(number) for number in range(len(cells))]
    (source,) = parse_sources([str(path)])
    assert [row.template for row in map(lambda entry: source.parse(entry, "text"), source.entries())] == cells  # type: ignore[attr-defined]


def test_cells_may_hold_newlines_quotes_and_books(tmp_path: Path) -> None:
    long = "word " * 60_000
    path = write(tmp_path / "a.csv", f'\ufefftext,id\r\n"One,\r\n""two"".",1\r\n\r\n{long},2\r\n"\0",3\r\n')
    assert texts(path) == ['One,\r\n"two".', long.strip(), "\0"]
    assert texts(write(tmp_path / "a.tsv", "id\ttext\n1\tOne, two.\n")) == ["One, two."]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('text\na\n"b', "line 3 of .* is no row of a .csv file .*: check its quotes"),
        ('text\n"a"b\n', "line 2 of .* is no row of a .csv file"),
        ("id,text\n1,One, two.\n", "line 2 of .* has 3 cells, the head has 2: put text with commas into quotes"),
        ("id,text\n1\n", "line 2 of .* has no field 'text', only id"),
        ("id;text\n1;a\n", "line 2 of .* has no field 'text', only id;text"),
        ("text\n", "the files are empty"),
        ("", "the files are empty"),
        (b"text\nok\ncaf\xe9\n", "line 3 of .* is not UTF-8"),
    ],
    ids=["open quote", "behind a quote", "comma", "short", "semicolons", "head alone", "empty", "latin-1"],
)
def test_a_damaged_csv_says_where(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        texts(write(tmp_path / "a.csv", content))


def test_columns_that_nobody_asked_for_are_of_no_account(tmp_path: Path) -> None:
    others: list[Any] = [1, "x", None, [1], {"a": [{}]}, 2.5, {"b": 1}]
    rows = [json.dumps({"text": f"text {n}", "other": other}) for n, other in enumerate(others)]
    rows += [
        '{"late": 1, "text": "nan", "x": NaN, "y": 1e999, "z": 1' + "0" * 5000 + "}",
        '{"a":1,"a":2,"text":"twice"}',
    ]
    big = "x" * 1_000_000
    rows += [json.dumps({"text": f"big {n}", "blob": big if n < 11 else [n]}) for n in range(12)]
    path = write(tmp_path / "a.jsonl", "\n".join(rows))
    assert os.path.getsize(path) > 10_000_000
    assert texts(path) == [*(f"text {n}" for n in range(7)), "nan", "twice", *(f"big {n}" for n in range(12))]
    table = pyarrow.table({"text": ["001", None, "NA"], "bytes": [b"\xff", b"", None], "list": [[1], [], None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == ["001", "NA"]


def test_arrow_files_of_either_format(tmp_path: Path) -> None:
    table = pyarrow.table({"text": [f"text {n}" for n in range(600)], "n": list(range(600))})
    pyarrow.feather.write_feather(table, str(tmp_path / "a.feather"))
    with pyarrow.ipc.new_stream(tmp_path / "a.arrow", table.schema) as file:
        file.write_table(table)
    assert texts(tmp_path / "a.feather") == texts(tmp_path / "a.arrow") == [f"text {n}" for n in range(600)]
    with pytest.raises(UserError, match="has no field 'story', only text, n"):
        texts(tmp_path / "a.arrow", "story")


def test_a_cell_of_a_table_that_is_no_text_is_an_error_of_its_row(tmp_path: Path) -> None:
    cells = pyarrow.array([b"a [gap]", b"\xff", b"b [gap]"], pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": cells}), path := tmp_path / "a.parquet")
    (part,) = Shards([str(path)], "text", None, 3)
    assert sorted((row.template, row.error is None) for row in part.rows) == [
        ("", False),
        ("a [gap]", True),
        ("b [gap]", True),
    ]
    with pytest.raises(UserError, match=r"row 2 of .* cannot be read \(.*0xff"):
        texts(path)


def test_a_damaged_arrow_file_is_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    table = pyarrow.table({"text": ["abc", "def", "ghi"]})
    with pyarrow.ipc.new_stream(path, table.schema) as file:
        file.write_table(table)
    whole, offsets = path.read_bytes(), b"".join(number.to_bytes(4, "little") for number in (0, 3, 6, 9))
    assert whole.count(offsets) == 1
    path.write_bytes(whole.replace(offsets, offsets[:12] + b"\xff\xff\xff\x7f"))
    with pytest.raises(UserError, match="cannot be read"):
        texts(path)


def zstd(content: bytes) -> bytes:
    return bytes(pyarrow.Codec("zstd").compress(content, asbytes=True))


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd, ".GZ": gzip.compress}


@pytest.mark.parametrize("pack", PACKERS.items(), ids=lambda pack: pack[0])
def test_files_may_be_compressed(pack: tuple[str, Callable[[bytes], bytes]], tmp_path: Path) -> None:
    last, compress = pack
    row = {"text": "One [gap]\ntwo é."}
    for name, content in {
        "a.txt": "One [gap]\ntwo é.",
        "a.jsonl": f"{json.dumps(row)}\n",
        "a.json": json.dumps([row]),
        "a.csv": f'text\n"{row["text"]}"\n',
    }.items():
        packed = write(tmp_path / f"{name}{last}", compress(content.encode()))
        assert texts(packed) == [row["text"]]
        with pytest.raises(UserError, match="cannot be read"):
            texts(write(packed, compress(content.encode() * 99)[:-9]))
        with pytest.raises(UserError, match="the files are empty"):
            texts(write(packed, b""))
    assert list(templates([str(write(tmp_path / f"b.txt{last}", compress(b"a [gap]\nb [gap]\n") * 2))])) == [
        "a [gap]",
        "b [gap]",
        "a [gap]",
        "b [gap]",
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_marks_and_newlines_are_no_text(encoding: str, newline: str, tmp_path: Path) -> None:
    lines = ["One é.", "<|endoftext|>", "Two.", "Three."]
    assert texts(write(tmp_path / "a.txt", newline.join(lines).encode(encoding))) == ["One é.", "Two.\nThree."]
    rows = [json.dumps({"text": text}) for text in ("One.", "Two.")]
    assert texts(write(tmp_path / "a.jsonl", newline.join(rows).encode(encoding))) == ["One.", "Two."]


def test_a_byte_that_is_no_text_is_found_in_a_large_file(tmp_path: Path) -> None:
    content = "é\n".encode() * 500_000 + b"caf\xe9\n"
    with pytest.raises(UserError, match=r"'.*a.txt' cannot be read: byte 0xe9 in line 500001 .position 1500003."):
        texts(write(tmp_path / "a.txt", content))
    with pytest.raises(UserError, match=r"in line 1 \(position 1\) is not UTF-8"):
        texts(write(tmp_path / "b.txt", "aé".encode()[:-1]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 2 of '.*a.jsonl' is no JSON"),
        ("[" * 100_000, "line 2 of .* is no JSON .nested more than 100 deep"),
        ('{"a":' * 100_000, "line 2 of .* is no JSON .nested"),
        ("[1]", "line 2 of .* is no JSON object"),
        ("7", "is no JSON object"),
        ('{"text": "\\ud800"}', r"the field 'text' of line 2 of .* holds \\ud800, half of a character, at position 0"),
        ('{"text": "a", "text": "b"}', "holds two values of 'text', expected text"),
        ('{"text": NaN}', "holds NaN, which is no JSON, expected text"),
        ('{"text": 1' + "0" * 5000 + "}", "holds a number of 5001 digits, expected text"),
        ('{"text": ["' + "x" * 9999 + '"]}', "holds list, expected text"),
        ('{"text": "a\0b"}', "Invalid control character at character 12"),
        ('{"' + '":1,"'.join(f"column{n}" * 9 for n in range(999)) + '":1}', "and 987 more: set data.field"),
    ],
    ids=["broken", "lists", "objects", "list", "number", "half", "twice", "nan", "digits", "long", "nul", "columns"],
)
def test_a_bad_row_of_json_is_named_by_its_line(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        texts(write(tmp_path / "a.jsonl", f'{{"text": "ok"}}\n{line}\n'))
    assert len(str(caught.value)) <= 700 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        '[{"text": "a"}, {"text": "b", "id": 1}]',
        '{"text": "a"}\n{"text": "b"}\n',
        '{"text": ["a", "b"], "id": [1, 2]}',
        '[\n  {\n    "text": "a"\n  },\n  {"text": "b"}\n]\n',
    ],
    ids=["array", "lines", "columns", "indented"],
)
def test_json_files_of_every_shape(content: str, tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.json", content)) == ["a", "b"]
    assert texts(write(tmp_path / "b.json", '{\n "text": "a"\n}')) == ["a"]


def test_other_things_than_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    for path in (tmp_path / "pipe.txt", "/dev/zero", tmp_path, "nul\0.txt", "x" * 300 + ".txt"):
        with pytest.raises(UserError, match="no text file at"):
            texts(path)


def test_text_that_older_code_has_read_is_read_anew(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.csv", "text\nNA\n")
    for readers in (1, 2):
        monkeypatch.setattr("textdiff.data.corpus.READERS", readers)
        load_corpus([str(path)], tokenizer, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 4
