"""The tokenised corpus is written once, and again when anything that it depends on changes."""

import os
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from tests.helpers.training import stories, write_corpus
from textdiff.data import Corpus, load_corpus
from textdiff.data.corpus import LONGEST_PART, encoded, fingerprint, in_memory, parts_of
from textdiff.errors import UserError
from textdiff.files import atomically
from textdiff.text import decode, load_tokenizer, train_tokenizer


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "texts.txt", stories(300))


def test_documents_come_back_as_they_were(source: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    corpus = load_corpus([str(source)], tokenizer, tmp_path / "cache")
    assert len(corpus) == 300 and isinstance(corpus.tokens, np.memmap) and corpus.tokens.dtype == np.uint16
    for document, text in enumerate(stories(300)):
        ids = corpus[document]
        assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
        assert decode(tokenizer, ids.tolist()) == text


def test_memory_and_disk_hold_the_same(source: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    mapped, held = load_corpus([str(source)], tokenizer, tmp_path / "cache"), in_memory(stories(300), tokenizer)
    assert (mapped.tokens == held.tokens).all() and (mapped.offsets == held.offsets).all()


def test_a_special_token_that_is_spelt_out_stays_text(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = in_memory(["a <|mask|> and <|eos|>"], tokenizer)[0].tolist()
    special = {tokenizer.mask_token_id, tokenizer.null_token_id, tokenizer.pad_token_id}
    assert not special & set(ids) and ids.count(tokenizer.eos_token_id) == 1


def test_a_corpus_is_tokenised_once(
    source: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_corpus([str(source)], tokenizer, tmp_path / "cache")
    monkeypatch.setattr("textdiff.data.corpus.documents", lambda *arguments: pytest.fail("loaded again"))
    second = load_corpus([str(source)], tokenizer, tmp_path / "cache")
    assert (first.tokens == second.tokens).all() and len(list((tmp_path / "cache").iterdir())) == 2


def test_a_change_of_file_field_or_tokenizer_makes_a_new_entry(
    source: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"

    def entries() -> int:
        return len(list(cache.iterdir())) // 2

    load_corpus([str(source)], tokenizer, cache)
    load_corpus([str(source)], tokenizer, cache, field="story")
    assert entries() == 2
    load_corpus([str(source)], train_tokenizer(stories(10, seed=5), 280), cache)
    assert entries() == 3
    write_corpus(source, stories(300, seed=9))
    os.utime(source, ns=(0, 0))
    assert (
        in_memory(stories(300, seed=9), tokenizer)[7].tolist()
        == load_corpus([str(source)], tokenizer, cache)[7].tolist()
    )
    assert entries() == 4
    load_corpus([str(source), str(source)], tokenizer, cache)
    assert entries() == 5


def test_a_tokenizer_is_identified_by_what_it_does(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    before = fingerprint(tokenizer)
    tokenizer.save_pretrained(tmp_path / "saved")
    assert fingerprint(load_tokenizer(tmp_path / "saved")) == before
    tokenizer(["a", "the dog"], padding=True, truncation=True, max_length=1)
    assert fingerprint(tokenizer) == before
    assert fingerprint(train_tokenizer(stories(10, seed=5), 300)) != before


def test_an_empty_corpus_is_refused_and_leaves_no_file(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n<|endoftext|>\n  \n")
    with pytest.raises(UserError, match=r"no document in .*empty.txt: the files are empty"):
        load_corpus([str(tmp_path / "empty.txt")], tokenizer, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with atomically(path) as file:
        file.write(b"old")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), atomically(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old" and [p.name for p in path.parent.iterdir()] == ["file"]


def _load(source: str, tokenizer: str, cache: str) -> int:
    corpus: Corpus = load_corpus([source], load_tokenizer(tokenizer), cache)
    return int(corpus.tokens.astype(np.int64).sum())


@pytest.mark.slow
def test_processes_may_make_the_same_corpus_at_once(
    source: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    arguments = (str(source), str(tmp_path / "tokenizer"), str(tmp_path / "cache"))
    with get_context("spawn").Pool(3) as pool:
        totals = pool.starmap(_load, [arguments] * 3)
    assert len(set(totals)) == 1 and len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("suffix", [".tokens", ".offsets.npy"])
@pytest.mark.parametrize("damage", [lambda content: content[:-8], lambda content: b"", lambda content: content + b"  "])
def test_a_damaged_entry_is_written_anew(
    source: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    first = load_corpus([str(source)], tokenizer, tmp_path / "cache")
    expected = first.tokens.tolist(), first.offsets.tolist()
    (entry,) = (path for path in (tmp_path / "cache").iterdir() if path.name.endswith(suffix))
    (content := entry.with_name("damaged")).write_bytes(damage(entry.read_bytes()))
    content.replace(entry)
    again = load_corpus([str(source)], tokenizer, tmp_path / "cache")
    assert (again.tokens.tolist(), again.offsets.tolist()) == expected


def test_a_long_text_is_tokenised_in_parts_as_a_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "\n\n".join(stories(300, words=(1, 30))) + " " * 300 + "x" * 300 + " é . 日本 \n x"
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    for longest in (100, 999, 10**9):
        parts = list(parts_of(text, longest))
        assert "".join(part for part, _ in parts) == text and [last for _, last in parts][-2:] in (
            [False, True],
            [True],
        )
        assert all(0 < len(part) <= longest for part, _ in parts)
    in_parts = [part for part, _ in parts_of("\n\n".join(stories(300, words=(1, 30))), 2000)]
    ids = [token for part in in_parts for token in tokenizer(part, add_special_tokens=False)["input_ids"]]
    assert len(in_parts) > 10 and ids == whole[: len(ids)]
    long = " ".join(stories(2500))
    (found,) = encoded([long], tokenizer)
    assert len(long) > LONGEST_PART
    assert found.tolist()[1:-1] == tokenizer(long, add_special_tokens=False)["input_ids"]


def test_texts_stay_apart_however_they_are_batched(tokenizer: PreTrainedTokenizerBase) -> None:
    texts = [" ".join(stories(700)), *stories(20), " ".join(stories(2500, seed=2)), "A dog."]
    assert [ids.tolist() for ids in encoded(texts, tokenizer, at_once=3)] == [
        next(encoded([text], tokenizer)).tolist() for text in texts
    ]
