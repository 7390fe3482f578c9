"""Sources of text: files of every kind, the Hub, worlds and models; their shorthand; errors in one line."""

import json
import lzma
from collections.abc import Callable
from csv import writer
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.helpers.tiny import save, tiny
from textdiff.data import (
    HubDataset,
    HumanEval,
    JsonLines,
    ModelSamples,
    Questions,
    Source,
    TableFile,
    TextFile,
    WorldTexts,
    load_corpus,
    parse_source,
)
from textdiff.data.sources import check_sources, documents, templates
from textdiff.errors import UserError

TEXTS = ["One dog.\nIt ran.", "日本語 🙂", "The end."]


def txt(path: Path, texts: list[str]) -> Path:
    return write(path.with_suffix(".txt"), "\n<|endoftext|>\n".join(texts))


def xz(path: Path, texts: list[str]) -> Path:
    path = path.with_suffix(".txt.xz")
    path.write_bytes(lzma.compress("\n<|endoftext|>\n".join(texts).encode()))
    return path


def jsonl(path: Path, texts: list[str]) -> Path:
    return write(path.with_suffix(".jsonl"), "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts))


def csv(path: Path, texts: list[str]) -> Path:
    path = path.with_suffix(".csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer(file).writerows([["text", "id"], *([text, "1"] for text in texts)])
    return path


def parquet(path: Path, texts: list[str]) -> Path:
    path = path.with_suffix(".parquet")
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path)
    return path


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", [txt, xz, jsonl, csv, parquet])
def test_documents_come_in_order_from_files_of_every_kind(
    kind: Callable[[Path, list[str]], Path], tmp_path: Path
) -> None:
    first, second = kind(tmp_path / "a", TEXTS), kind(tmp_path / "b", ["  \n", "More.  \n"])
    assert list(documents([str(first), str(second)])) == [*TEXTS, "More."]


def test_a_text_file_without_separators_is_one_document(tmp_path: Path) -> None:
    assert list(documents([str(write(tmp_path / "a.txt", "\ufeffOne.\n\nTwo.\n"))])) == ["One.\n\nTwo."]


def test_another_field(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"story": "One."}\n{"story": null}\n')
    assert list(documents([str(path)], field="story")) == ["One."]


def test_several_fields_are_joined(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'id,sentence1,sentence2\n1,"One, two. ",Three.\n2,,Four.\n')
    assert list(documents([str(path)], field="sentence1+sentence2")) == ["One, two. Three.", "Four."]
    with pytest.raises(UserError, match="no field 'sentence3', only id, sentence1, sentence2"):
        list(documents([str(path)], field="sentence1+sentence3"))


def test_a_hub_data_set_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def load_dataset(
        path: str, name: str | None, *, data_files: None, split: str, streaming: bool
    ) -> list[dict[str, str]]:
        calls.append((path, name, split, streaming))
        return [{"text": "One."}, {"text": "Two."}]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert list(documents(["hub:some/stories", "hub:some/stories:plain@validation[:2]"])) == ["One.", "Two."] * 2
    assert calls == [("some/stories", None, "train", True), ("some/stories", "plain", "validation[:2]", True)]


def test_a_hub_data_set_that_does_not_exist_takes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*arguments: Any, **options: Any) -> None:
        raise ConnectionError("Couldn't reach the Hub.\nand so on")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(UserError, match=r"'hub:some/stories' cannot be read .Couldn't reach the Hub.") as caught:
        list(documents(["hub:some/stories"]))
    assert "\n" not in str(caught.value)


def broken(kind: Callable[[Path, list[str]], Path]) -> Callable[[Path], Path]:
    def cut(path: Path) -> Path:
        whole = kind(path, TEXTS * 20)
        whole.write_bytes(whole.read_bytes()[:-9])
        return whole

    return cut


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path / "none.txt", "no text file at"),
        (lambda path: path, "no text file at"),
        (lambda path: write(path / "a.docx", "x"), "'.docx': known are"),
        (lambda path: write(path / "a.jsonl", '{"story": "One."}\n'), "no field 'text', only story"),
        (lambda path: write(path / "a.jsonl", '{"text": 7}\n'), "holds 7, expected text"),
        (lambda path: write(path / "a.jsonl", "{ not json\n"), "line 1 of .* is no JSON .* at character 3"),
        (lambda path: broken(jsonl)(path / "a"), "line 60 of .* is no JSON"),
        (lambda path: broken(xz)(path / "a"), "cannot be read"),
        (lambda path: broken(parquet)(path / "a"), "cannot be read"),
        (
            lambda path: (path / "a.txt").write_bytes(b"caf\xe9") and path / "a.txt",
            "byte 0xe9 in line 1 .position 3. is not UTF-8",
        ),
    ],
    ids=["absent", "folder", "kind", "field", "number", "no json", "cut jsonl", "cut xz", "cut parquet", "latin-1"],
)
def test_files_that_cannot_be_read_take_one_line(make: Callable[[Path], Path], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        list(documents([str(make(tmp_path))]))
    assert "\n" not in str(caught.value)


def test_an_error_in_the_loop_over_documents_is_passed_on(tmp_path: Path) -> None:
    path = txt(tmp_path / "a", TEXTS)
    with pytest.raises(ZeroDivisionError):
        for _ in documents([str(path)]):
            1 / 0  # noqa: B018


def test_templates_come_one_a_line_or_from_a_field(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.txt", "One [gap] two.\n\n Three [gap:4] four.\n")
    rows = write(tmp_path / "a.jsonl", '{"text": "Five [gap]\\nsix."}\n')
    assert list(templates([str(lines), str(rows)])) == ["One [gap] two.", "Three [gap:4] four.", "Five [gap]\nsix."]


def test_a_world_is_a_source_of_texts() -> None:
    ten = list(documents(["world:grammar:10:3"]))
    assert len(ten) == 10 and ten == list(documents(["world:grammar:10:3"]))
    assert ten != list(documents(["world:grammar:10:4"]))
    assert all(text.endswith(".") for text in ten)
    assert {len(text) for text in documents(["world:hmm:3"])} == {64}


@pytest.mark.parametrize("source", ["world:grammar", "world:grammar:0", "world:grammar:x", "world:mars:3"])
def test_a_malformed_world_is_refused(source: str) -> None:
    with pytest.raises(UserError, match="expected"):
        list(documents([source]))


def test_questions_are_a_line_for_each_role(tmp_path) -> None:
    rows = [
        {"question": "How many?\nTell.", "answer": "Two and\ntwo are 4.\n#### 4"},
        {"context": "A dog ran.\nFar.", "question": "Who ran?", "answer": "a dog", "story": "x"},
        {"question": "2 + 2 = ?", "rationale": "2 + 2 = 4", "answer": "4"},
    ]
    for number, row in enumerate(rows):
        (tmp_path / f"{number}.jsonl").write_text(json.dumps(row) + "\n")
    found = list(documents([f"questions:{tmp_path / f'{number}.jsonl'}" for number in range(3)]))
    assert found == [
        "How many? Tell.\nTwo and two are 4.\n4",
        "A dog ran. Far.\nWho ran?\na dog",
        "2 + 2 = ?\n2 + 2 = 4\n4",
    ]
    (tmp_path / "bad.jsonl").write_text(json.dumps({"question": "Who?"}) + "\n")
    with pytest.raises(UserError, match=r"line 1 of .* has no field 'answer', only question"):
        list(documents([f"questions:{tmp_path / 'bad.jsonl'}"]))
    (tmp_path / "plain.txt").write_text("no")
    for source, message in (("plain.txt", "ends in '.txt'"), ("none.jsonl", "no text file at")):
        with pytest.raises(UserError, match=message):
            list(documents([f"questions:{tmp_path / source}"]))


def test_sums_are_a_source() -> None:
    three, five = (list(documents([f"world:arithmetic{kind}:2:1"])) for kind in ("", "-5"))
    assert [text.count("=") for text in three] == [3, 3] and [text.count("=") for text in five] == [5, 5]
    with pytest.raises(UserError, match="operands is 1, expected a whole number, 2 to 32"):
        list(documents(["world:arithmetic-1:2"]))


@pytest.mark.parametrize("few", [100, pytest.param(600, marks=pytest.mark.slow)])
def test_a_tenth_of_the_questions_is_held_out(few: int) -> None:
    """However seeded, and in whatever order of its terms, a question is on one side only."""

    def asked(part: str, count: int, seed: int) -> set[tuple[str, ...]]:
        texts = documents([f"world:arithmetic-3-{part}:{count}:{seed}"])
        first_and_terms = (text.split(" = ?")[0].split() for text in texts)
        return {(w[0], *sorted(a + b for a, b in zip(w[1::2], w[2::2], strict=True))) for w in first_and_terms}

    train, test = (
        asked("train", few, 1) | asked("train", few, 2),
        asked("test", few // 3, 1) | asked("test", few // 3, 3),
    )
    assert len(train) > few and len(test) > few // 6 and not train & test
    every = list(documents([f"world:arithmetic-3:{few * 3}:5"]))
    held = set(documents([f"world:arithmetic-3-test:{few * 3}:5"]))
    share = sum(text in held for text in every) / len(every)
    assert 0.06 < share < 0.14  # 0.1 of the questions
    with pytest.raises(UserError, match="no world 'arithmetic-3-valid'"):
        list(documents(["world:arithmetic-3-valid:2"]))


def test_texts_are_sampled_from_an_autoregressive_prior(tmp_path: Path) -> None:
    folder = save(tiny(causal=True, max_position_embeddings=64), tmp_path / "ar")
    first, again, other = (list(documents([f"prior:{folder}:3:{seed}"])) for seed in (1, 1, 2))
    assert len(first) == 3 and first == again != other
    with pytest.raises(UserError, match="no source of texts"):
        check_sources([f"prior:{folder}"])
    diffusion = save(tiny(), tmp_path / "diffusion")
    with pytest.raises(UserError, match="writes no texts from left to right"):
        list(documents([f"prior:{diffusion}:3"]))


@pytest.mark.parametrize(
    ("shorthand", "source"),
    [
        ("a/b.txt", TextFile("a/b.txt")),
        ("a/b.txt.xz", TextFile("a/b.txt.xz")),
        ("b.jsonl", JsonLines("b.jsonl")),
        ("b.csv", TableFile("b.csv")),
        ("hub:some/stories", HubDataset("some/stories")),
        ("hub:some/stories:plain@validation", HubDataset("some/stories", "plain", "validation")),
        ("world:hmm^mxy=2:10:3", WorldTexts("hmm^mxy=2", 10, 3)),
        ("world:grammar:10", WorldTexts("grammar", 10)),
        ("prior:stories-ar:64:9", ModelSamples("stories-ar", 64, 9)),
        ("questions:a.jsonl", Questions("a.jsonl")),
        ("humaneval:a.jsonl", HumanEval("a.jsonl")),
    ],
    ids=str,
)
def test_a_shorthand_is_the_name_of_its_source(shorthand: str, source: Source) -> None:
    assert parse_source(shorthand) == source == parse_source(source)
    assert source.name == shorthand


def test_a_source_may_be_given_by_its_class(tmp_path: Path) -> None:
    path = txt(tmp_path / "a", TEXTS)
    mixed = [TextFile(str(path)), WorldTexts("hmm", 2, 5)]
    assert list(documents(mixed)) == list(documents([str(path), "world:hmm:2:5"]))
    for wrong in (lambda: WorldTexts("hmm", 0), lambda: ModelSamples("stories-ar", 3, -1)):
        with pytest.raises(UserError, match="is no source of texts"):
            wrong()


def test_a_program_of_code_infilling_is_a_document(tmp_path: Path) -> None:
    row = {"task_id": "t", "prompt": "def f():\n", "suffix": "\nf()", "canonical_solution": "    pass", "test": ""}
    path = write(tmp_path / "code.jsonl", json.dumps(row) + "\n")
    assert list(documents([f"humaneval:{path}"])) == ["def f():\n    pass\nf()"]


def test_samples_of_other_weights_are_another_corpus(tmp_path: Path) -> None:
    """A checkpoint that was trained on keeps its name; its samples must not be those of the weights before."""
    sizes = []
    for layers in (1, 2):
        prior = tiny(causal=True, max_position_embeddings=64, num_hidden_layers=layers)
        folder = save(prior, tmp_path / "ar")
        load_corpus([f"prior:{folder}:3"], prior.tokenizer, tmp_path / "cache")
        sizes.append(len(list((tmp_path / "cache").iterdir())))
    assert sizes == [2, 4]
