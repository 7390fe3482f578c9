"""YAML of any kind is read once, within bounds, and never repeated in a message."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from textdiff.cli import compare
from textdiff.cli.lightning import run
from textdiff.cli.yaml_text import MOST_BYTES, load, read
from textdiff.errors import UserError

ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
SECRET = "It was a dark and stormy night"

REFUSED: dict[str, tuple[str | bytes, str]] = {
    "not UTF-8": (b"trainer: {max_steps: 3}\n# caf\xe9\n", r"is no text in UTF-8 \(line 2\)"),
    "UTF-16": ("trainer: {max_steps: 3}".encode("utf-16"), "is no text in UTF-8"),
    "binary": (bytes(range(256)) * 20, "is no text in UTF-8"),
    "a tab": ("trainer:\n\tmax_steps: 3\n", "line 2, column 1: found character that cannot start"),
    "no value": ("trainer:\n", "line 1, column 9: 'trainer' has no value: give one, or null"),
    "no value inside": ("data:\n  length:\n  seed: 0\n", "line 2, column 10: 'length' has no value"),
    "a number as key": ("5:\n", "'5' has no value"),
    "a list as key": ("[1, 2]: 3\n", "found unhashable key"),
    "!!int": ("data: {length: !!int x}\n", "the tag 'tag:yaml.org,2002:int': write the value without a tag"),
    "!!int alone": ("!!int x", "write the value without a tag"),
    "!!timestamp": ("data: !!timestamp 99999-99-99\n", "write the value without a tag"),
    "!!python": ("data: !!python/object/apply:os.system ['touch pwned']\n", "write the value without a tag"),
    "repeated aliases": (ALIASES, "more than 100,000 values or 60 levels"),
    "an alias of itself": ("data: &a\n  train: *a\n", "the alias 'a' stands in what it stands for"),
    "a merged alias": ("data: &a\n  <<: *a\n", "the alias 'a' stands in what it stands for"),
    "many levels": ("a: " + "[" * 100 + "]" * 100, "more than 60 levels"),
    "very many levels": ("a: " + "[" * 100_000, "exceeded maximum nesting depth"),
    "the same key twice": ("data:\n  length: 3\n  length: 4\n", "the key 'length' occurs twice"),
    "nothing": ("", "is no configuration: expected YAML"),
    "a comment": ("# nothing\n", "is no configuration"),
    "another text": (f"{SECRET}.\n" * 2000, "is no configuration"),
    "another text with colons": (f"Once: upon: a time\n{SECRET}: x: y", "mapping values are not allowed"),
    "a list": ("- a\n- b\n", "is no configuration"),
    "two documents": ("a: 1\n---\nb: 2\n", "another document"),
    "a control character": ("a: \x07\n", "control characters are not allowed"),
    "a huge number": (f"data: {{length: {'9' * 5000}}}", "a number of 5,000 digits"),
    "a huge number to base 60": (f"data: {{length: 1{':59' * 100_000}}}", "a number of 300,001 digits"),
    "a huge file": ("# comment\n" * 200_000, "has more than 1,048,576 bytes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_configuration_takes_one_line(case: str, tmp_path: Path) -> None:
    content, message = REFUSED[case]
    path = tmp_path / "given.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in (lambda: run(["fit", "--config", str(path)]), lambda: compare.run(["--config", str(path)])):
        with pytest.raises(UserError, match=message) as caught:
            command()
        line = str(caught.value)
        assert "given.yaml" in line and "\n" not in line and len(line) < 400 and SECRET not in line
    assert not Path("pwned").exists()


def test_plain_yaml_is_read_as_before() -> None:
    text = "# a comment\nbase: &b {lr: 1e-3, steps: [4, 8]}\nmore: {<<: *b, name: 'null', none: null, on: true}\n"
    steps = {"lr": 1e-3, "steps": [4, 8]}
    assert load(text, "x.yaml") == {"base": steps, "more": {**steps, "name": "null", "none": None, True: True}}
    assert load("[a, b]") == ["a", "b"] and load("name:") == "name:" and load("{a, b}") == "{a, b}"
    with pytest.raises(yaml.YAMLError, match="without a tag"):
        load("!!int x")


@pytest.mark.parametrize("option", ["--data", "--model", "--data.train", "--trainer.callbacks", "--trainer.logger"])
def test_another_file_as_an_option_is_not_read(option: str, tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text(f"{SECRET}.\n" * 2000)
    os.mkfifo(tmp_path / "pipe")
    for name in ("story.txt", "pipe"):
        with pytest.raises(UserError, match="is no YAML file: write a list of files in brackets") as caught:
            run(["fit", option, str(tmp_path / name)])
        assert SECRET not in str(caught.value) and len(str(caught.value)) < 700


def test_a_pipe_is_read_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    writer = threading.Thread(target=pipe.write_text, args=("data: {length: 77}\n",))
    writer.start()
    assert run(["fit", "--config", str(pipe), "--print_config"]) == 0
    writer.join()
    assert yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["length"] == 77


def test_a_pipe_without_a_writer_is_refused(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    with pytest.raises(UserError, match="nobody writes to the pipe"):
        run(["fit", "--config", str(pipe)])


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "."])
def test_what_is_no_file_is_refused(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"is no file|cannot be read"):
        read(path)
    with pytest.raises(UserError, match=r"not a file|no configuration"):
        run(["fit", "--config", path])


def test_a_pipe_that_does_not_end_is_refused() -> None:
    place, other = os.pipe()

    def write() -> None:
        try:
            while True:
                os.write(other, b"# comment\n" * 1000)
        except OSError:
            pass

    (writer := threading.Thread(target=write)).start()
    with pytest.raises(UserError, match=f"more than {MOST_BYTES:,} bytes"):
        read(f"/dev/fd/{place}")
    os.close(place)
    writer.join()
    os.close(other)


@pytest.mark.parametrize(
    "options",
    [{"length": None}, {"seed": None}, {"corruption": {"class_path": "textdiff.data.Mixture", "share": None}}],
    ids=str,
)
def test_null_is_no_value_of_a_number(options: dict[str, Any], tmp_path: Path) -> None:
    if "corruption" in options:
        options["corruption"] = {"class_path": "textdiff.data.Mixture", "init_args": {"share": None}}
    (path := tmp_path / "null.yaml").write_text(yaml.safe_dump({"data": options}))
    with pytest.raises(UserError, match=r"data\.\w+(\.share)? is null, and needs a value"):
        run(["fit", "--config", str(path)])


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("seed_everything", "-1", "seed_everything is -1"),
        ("model.seed", str(10**20), r"model\.seed is 1"),
        ("model.warmup_steps", "-5", r"model\.warmup_steps is -5"),
        ("model.final_lr", "-3", r"model\.final_lr -3"),
        ("model.opening_steps", "-1", r"model\.opening_steps is -1"),
        ("model.optimizer.lr", "-1", r"model\.optimizer\.lr is -1"),
        ("model.optimizer.betas", "[1, 2]", r"model\.optimizer\.betas is \[1\.0, 2\.0\]"),
        ("model.network.hidden_size", "100000000", r"GiB of weights, and this machine"),
        ("model.network.num_hidden_layers", "1000000000", r"GiB of weights, and this machine"),
        ("data.batch_size", "1000000000", r"data\.batch_size x data\.length is"),
        ("data.tokenizer", "/dev/null", r"data\.tokenizer is '/dev/null', which is no folder"),
    ],
)
def test_a_number_out_of_range_takes_one_line(option: str, value: str, message: str, tmp_path: Path) -> None:
    tokenizer = [] if option == "data.tokenizer" else ["--data.tokenizer", "world:hmm"]
    more = ["--trainer.max_steps", "1", "--trainer.logger", "false", "--trainer.default_root_dir", str(tmp_path)]
    sources = ["--data.train", "[world:hmm:50]", "--data.valid", "[world:hmm:9:1]", "--data.cache", str(tmp_path)]
    optimizer = ["--model.optimizer", "AdamW"]
    with pytest.raises(UserError, match=message) as caught:
        run(["fit", *tokenizer, *sources, *optimizer, *more, f"--{option}", value])
    assert "\n" not in str(caught.value)
