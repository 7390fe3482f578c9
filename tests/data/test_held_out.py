"""Held-out gaps: where they are cut, what they keep, and gaps of open length."""

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from tests.helpers.training import stories
from textdiff.data import held_out_gaps, held_out_lengths, held_out_sentences
from textdiff.data.corpus import in_memory
from textdiff.errors import UserError
from textdiff.text import Vocabulary


def test_gaps_lie_within_documents_with_evidence_on_both_sides(
    tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary
) -> None:
    corpus = in_memory(stories(20), tokenizer)
    documents = [corpus[d].tolist() for d in range(len(corpus))]
    items = held_out_gaps(corpus, vocabulary, 30, gap=8, margin=5, longest=200)
    assert len(items) == 30
    for canvas, tokens in items:
        assert tokens[0].tolist() in documents and tokens.shape[1] <= 200
        assert canvas.slots.sum() == 8 and canvas.minimum.tolist() == [[8]] and canvas.maximum.tolist() == [[8]]
        first = int(canvas.slots[0].nonzero()[0])
        assert first >= 5 and first + 8 + 5 <= tokens.shape[1]
        assert (canvas.tokens[~canvas.slots] == tokens[~canvas.slots]).all()
        assert (canvas.tokens[canvas.slots] == vocabulary.mask).all()


def test_gaps_are_the_same_every_time(tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> None:
    corpus = in_memory(stories(20), tokenizer)
    places = [
        [int(canvas.slots[0].nonzero()[0]) for canvas, _ in held_out_gaps(corpus, vocabulary, 30, 8, seed=seed)]
        for seed in (0, 0, 1)
    ]
    assert places[0] == places[1] != places[2]


def test_documents_that_are_too_short_are_passed_over(
    tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary
) -> None:
    assert held_out_gaps(in_memory(["A dog.", "A cat."], tokenizer), vocabulary, 5) == []


def test_lengths_are_uniform_up_to_the_longest(tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> None:
    items = held_out_lengths(in_memory(stories(20), tokenizer), vocabulary, 200, 4, margin=5)
    lengths = [int(item.canvas.slots.sum()) for item in items]
    assert len(items) == 200 and all(30 < lengths.count(length) < 75 for length in (1, 2, 3, 4))


def test_open_gaps_leave_the_text_as_it_is(tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> None:
    item = held_out_gaps(in_memory(stories(20), tokenizer), vocabulary, 1, 4, margin=5)[0]
    wide, true = item.with_open_gaps(7, vocabulary)
    assert (wide.minimum.item(), wide.maximum.item(), true.shape[1]) == (1, 7, item.tokens.shape[1] + 3)
    assert true[true != vocabulary.null].tolist() == item.tokens[0].tolist()
    assert torch.equal(true[wide.observed], wide.tokens[wide.observed])
    assert torch.equal(item.characters(vocabulary), (vocabulary.characters[true] * wide.slots).sum(dim=1))
    with pytest.raises(UserError, match="a gap of 4 tokens does not fit into 3 slots"):
        item.with_open_gaps(3, vocabulary)


STORY = 'Tom ran. "Stop!" she said. Mr. Fox slept.\nHe saw a dog. The end. More.'


def test_one_sentence_of_five_is_cut_out(tokenizer, vocabulary):
    [(canvas, tokens)] = held_out_sentences(["Too short. Is it?", STORY], tokenizer, vocabulary, 5)
    gap = canvas.slots[0]
    text, fill = tokenizer.decode(tokens[0], skip_special_tokens=True), tokenizer.decode(tokens[0][gap])
    assert text == 'Tom ran. "Stop!" she said. Mr. Fox slept.' and fill == " Mr."  # after Mr., too
    assert (canvas.tokens[0][gap] == vocabulary.mask).all() and (canvas.minimum == gap.sum()).all()
    assert canvas.word_start[0].nonzero().tolist() == gap.nonzero()[:1].tolist()
    assert tokens[0, 0] == vocabulary.bos and tokens[0, -1] == vocabulary.eos


def test_sentences_that_do_not_fit_are_passed_over(tokenizer, vocabulary):
    good = "One day. Two days. Three days. Four long days went by. Five."
    assert len(held_out_sentences([good] * 9, tokenizer, vocabulary, 3)) == 3
    [(canvas, _)] = held_out_sentences([good], tokenizer, vocabulary, 1, which=2, of=3)
    size = len(tokenizer(" Two days.")["input_ids"])
    assert int(canvas.minimum) == size
    assert not held_out_sentences([good], tokenizer, vocabulary, 1, longest=8)
    assert not held_out_sentences([good], tokenizer, vocabulary, 1, which=2, of=3, longest_gap=size - 1)
    assert not held_out_sentences(["No more than one."], tokenizer, vocabulary, 1)
