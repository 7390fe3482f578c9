"""Documents that are longer than a model's context are read in passages."""

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from tests.helpers.training import stories
from textdiff.data import Corpus, held_out_gaps, held_out_lengths, held_out_sentences, held_out_texts, passages
from textdiff.data.corpus import in_memory
from textdiff.data.passages import in_passages, split
from textdiff.text import Vocabulary


@pytest.fixture(scope="module")
def novel(tokenizer: PreTrainedTokenizerBase) -> Corpus:
    """One document of chapters: paragraphs of lines of sentences."""
    texts = stories(400, seed=3, words=(4, 30))
    lines = [" ".join(texts[start : start + 3]) for start in range(0, len(texts), 3)]
    return in_memory(["\n\n".join("\n".join(lines[start : start + 2]) for start in range(0, len(lines), 2))], tokenizer)


@pytest.mark.parametrize("longest", [4, 5, 17, 64, 256, 100_000])
def test_each_token_is_in_one_passage(novel: Corpus, vocabulary: Vocabulary, longest: int) -> None:
    spans = list(passages(novel.tokens, vocabulary, longest))
    assert spans == list(passages(novel.tokens, vocabulary, longest))
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])] and spans[-1][1] == len(novel.tokens)
    lengths = np.diff(spans)[:, 0]
    assert lengths.max() <= longest
    assert lengths[:-1].min(initial=longest) >= longest // 2 and lengths[-1] >= min(longest // 4, len(novel.tokens))
    assert in_passages(novel, vocabulary, longest).offsets.tolist() == [0, *(stop for _, stop in spans)]


def test_passages_end_where_paragraphs_lines_sentences_or_words_do(
    novel: Corpus, vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase
) -> None:
    def ends(longest: int) -> list[str]:
        spans = list(passages(novel.tokens, vocabulary, longest))[:-1]
        return [tokenizer.decode(novel.tokens[start:stop].tolist()) for start, stop in spans]

    assert all(end.endswith(".\n\n") for end in ends(1000))
    assert all(end.endswith((".\n", "\n\n", ".")) for end in ends(200))
    assert any(end.endswith(".\n\n") for end in ends(200))
    flat = np.asarray([vocabulary.bos, *[5] * 100], np.uint32)
    assert [stop for _, stop in passages(flat, vocabulary, 40)] == [40, 80, 101]


def test_documents_that_fit_are_no_passages(vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase) -> None:
    corpus = in_memory(stories(20), tokenizer)
    assert in_passages(corpus, vocabulary, 1000).offsets.tolist() == corpus.offsets.tolist()


def test_gaps_lie_in_passages_of_documents_that_are_too_long(novel: Corpus, vocabulary: Vocabulary) -> None:
    items = held_out_gaps(novel, vocabulary, 30, 8, longest=64)
    assert len({tuple(item.tokens[0].tolist()) for item in items}) == 30
    assert all(item.tokens.shape[1] <= 64 for item in items)
    assert len(held_out_lengths(novel, vocabulary, 9, 8, longest=64)) == 9
    texts = held_out_texts(novel, vocabulary, 10_000, longest=64)
    assert np.concatenate([text.numpy() for text in texts]).tolist() == novel.tokens.tolist()


def test_documents_that_fit_come_first_and_as_before(
    novel: Corpus, vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase
) -> None:
    short = in_memory(stories(5, words=(30, 40)), tokenizer)
    size = len(novel.tokens)
    both = Corpus(np.concatenate([novel.tokens, short.tokens]), np.concatenate([[0], short.offsets + size]))
    items, alone = (held_out_gaps(corpus, vocabulary, 12, 8, longest=128) for corpus in (both, short))
    assert [item.tokens.tolist() for item in items[:5]] == [item.tokens.tolist() for item in alone[:5]]
    assert len({tuple(item.tokens[0].tolist()) for item in items}) == 12
    assert held_out_gaps(both, vocabulary, 3, 100, longest=64) == []


def test_a_long_text_is_a_story_for_every_few_sentences(
    vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase
) -> None:
    text = " ".join(stories(60, words=(4, 9)))
    found = held_out_sentences([text], tokenizer, vocabulary, 50, 2, 3, longest=200)
    assert len(found) == 20
    assert len(held_out_sentences([text], tokenizer, vocabulary, 50, 2, 3, longest=100_000)) == 1


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_end_of_a_corpus_is_held_out(
    novel: Corpus, vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase, share: float
) -> None:
    for corpus in (novel, in_memory(stories(200), tokenizer), in_memory(["A dog."], tokenizer)):
        train, held_out = split(corpus, vocabulary, share)
        assert train.offsets[0] == 0 and train.offsets[-1] == held_out.offsets[0] > 0
        assert held_out.offsets[-1] == corpus.offsets[-1] > held_out.offsets[0]
        assert {*train.offsets, *held_out.offsets} - {train.offsets[-1]} == {*corpus.offsets} - {train.offsets[-1]}
        if len(corpus.tokens) > 1000:
            size = len(corpus.tokens) - int(held_out.offsets[0])
            assert 0.8 * share < size / len(corpus.tokens) < 1.2 * share + 0.01
    assert 90 < len(novel.tokens) - split(novel, vocabulary, share, most=100)[1].offsets[0] < 400
    train, held_out = split(novel, vocabulary, share)
    assert tokenizer.decode(train[0].tolist()).endswith("\n\n") and len(train) == len(held_out) == 1
    train, held_out = split(in_memory(stories(200), tokenizer), vocabulary, share)
    assert len(train) + len(held_out) == 200
