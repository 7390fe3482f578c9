"""The data module: the loaders that Lightning gets, and the mistakes it tells."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from tests.helpers.rows import same
from tests.helpers.training import corpora, stories
from textdiff.data import LeftToRight, TextDataModule
from textdiff.errors import UserError


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    files = corpora(tmp_path)
    return {
        "train": [files["train"]],
        "valid": [files["valid"]],
        "tokenizer": str(tmp_path / "deep" / "tokenizer"),
        "cache": str(tmp_path / "cache"),
        "vocab_size": 300,
        "length": 96,
        "batch_size": 4,
        "gaps": 3,
        "gap_length": 8,
        "workers": 0,
    }


def test_a_tokenizer_is_trained_once_and_loaded_ever_after(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = TextDataModule(**options)
    assert first.tokenizer.get_vocab().keys() and len(first.tokenizer) == 300
    monkeypatch.setattr("textdiff.data.module.train_tokenizer", lambda *arguments: pytest.fail("trained again"))
    assert TextDataModule(**options).tokenizer.get_vocab() == first.tokenizer.get_vocab()
    assert [path.name for path in Path(options["tokenizer"]).parent.iterdir()] == ["tokenizer"]


def test_a_tokenizer_of_the_hub_is_asked_for_by_name(
    options: dict[str, Any], tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("textdiff.data.module.load_tokenizer", lambda name: asked.append(name) or tokenizer)
    assert TextDataModule(**options | {"tokenizer": "hub:some/tokenizer"}).tokenizer is tokenizer
    assert asked == ["some/tokenizer"]


@pytest.mark.parametrize("streaming", [False, True])
def test_training_batches(options: dict[str, Any], streaming: bool) -> None:
    data = TextDataModule(**options, streaming=streaming)
    batches = list(islice(data.train_dataloader(), 3))
    assert all(value.shape == (4, 96) for batch in batches for value in batch.values())
    again = list(islice(TextDataModule(**options, streaming=streaming).train_dataloader(), 3))
    assert all(same(a, b) for a, b in zip(batches, again, strict=True))


@pytest.mark.parametrize("streaming", [False, True])
def test_training_goes_on_at_the_row_where_it_stopped_with_another_batch_size(
    options: dict[str, Any], streaming: bool
) -> None:
    whole = list(islice(TextDataModule(**options, streaming=streaming).train_dataloader(), 6))
    data = TextDataModule(**options | {"batch_size": 2}, streaming=streaming)
    data.load_state_dict({"batches": 3, "rows": 12})
    resumed = next(iter(data.train_dataloader()))
    assert same(resumed, {name: value[:2] for name, value in whole[3].items()})
    data = TextDataModule(**options, streaming=streaming)
    data.load_state_dict({"batches": 3})
    assert same(next(iter(data.train_dataloader())), whole[3])


def test_validation_has_the_same_noise_each_time(options: dict[str, Any]) -> None:
    data = TextDataModule(**options, valid_samples=3)
    rows, gaps = data.val_dataloader()
    first, second = list(rows), list(data.val_dataloader()[0])
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    assert sum(len(batch["tokens"]) for batch in first) == 3 * len(rows.dataset)
    assert len(gaps) == 3
    assert [len(loader) for loader in TextDataModule(**options | {"gaps": 0}).val_dataloader()] == [len(first) - 2]


def test_the_baseline_is_validated_on_plain_text(options: dict[str, Any]) -> None:
    rows = TextDataModule(**options, corruption=LeftToRight()).val_dataloader()[0]
    batches = list(rows)
    assert all((batch["canvas"] == batch["tokens"]).all() for batch in batches)
    assert sum(len(batch["tokens"]) for batch in batches) == len(rows.dataset)


def test_tests_have_sources_of_their_own(options: dict[str, Any]) -> None:
    assert len(TextDataModule(**options).test_dataloader()[0].dataset) == 6
    data = TextDataModule(**options, test=options["train"])
    assert len(data.test_dataloader()[0].dataset) > 6


def test_nothing_of_the_training_text_is_kept_in_streaming(options: dict[str, Any]) -> None:
    data = TextDataModule(**options, streaming=True)
    data.prepare_data()
    assert len(list(Path(options["cache"]).iterdir())) == 2, "the held-out text alone"


def test_without_held_out_text_the_end_of_the_training_text_is_held_out(
    options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "novel.txt"
    path.write_text("\n\n".join(stories(600)))
    data = TextDataModule(**options | {"train": [str(path)], "valid": [], "gaps": 3})
    data.prepare_data()
    packed, gaps = data.val_dataloader()
    assert len(gaps) == 3 and len(packed) > 0 and next(iter(data.train_dataloader()))["tokens"].shape == (4, 96)
    train, held_out = data._training_corpus(), data._held_out_corpus([])
    assert train.offsets[-1] == held_out.offsets[0] and held_out.offsets[-1] == len(train.tokens)
    with pytest.raises(UserError, match=r"no source of text was given: set data\.valid"):
        TextDataModule(**options | {"valid": [], "streaming": True}).prepare_data()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "data.batch_size is 0, expected at least 1"),
        ({"workers": -1}, "data.workers is -1, expected at least 0"),
        ({"train": ["nowhere.txt"]}, "no text file at 'nowhere.txt'"),
        ({"train": []}, "no source of text"),
        ({"length": 4}, "no room for text"),
        ({"gap_length": 90}, "no held-out text of up to 96 tokens has room for a gap of 90"),
    ],
    ids=str,
)
def test_mistakes_are_reported(options: dict[str, Any], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        data = TextDataModule(**options | wrong)
        data.prepare_data()
        data.train_dataloader()
        data.val_dataloader()


def test_without_templates_there_is_nothing_to_fill(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no source of text"):
        TextDataModule(**options).predict_dataloader()
