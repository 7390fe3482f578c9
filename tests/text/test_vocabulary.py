import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from textdiff.models import TransformerConfig
from textdiff.text import SPECIAL_TOKENS, Vocabulary, encode, with_special_tokens

TEXTS = ["Lily lost her ball.", " They  looked.\n\nShe", "日本語 שלום 🙂 e\u0301", "\0 \t", ""]


@pytest.mark.parametrize("text", TEXTS)
def test_characters_sum_to_the_length_of_the_text(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert Vocabulary.of(tokenizer).characters[encode(tokenizer, text)].sum() == len(text)


def test_characters_and_word_starts_of_foreign_tokenizers(foreign: PreTrainedTokenizerBase) -> None:
    vocabulary = Vocabulary.of(foreign)
    text = " they" if foreign.cls_token else " They é🙂"
    ids = encode(foreign, text, continues=True)
    assert vocabulary.characters[ids].sum() == len(text)
    assert vocabulary.starts_word[ids[0]]
    assert not vocabulary.starts_word[encode(foreign, ".ing", continues=True)[0]]


def test_special_ids(tokenizer: PreTrainedTokenizerFast) -> None:
    vocabulary = Vocabulary.of(tokenizer)
    special = [getattr(tokenizer, f"{name}_id") for name in SPECIAL_TOKENS]
    assert [vocabulary.pad, vocabulary.mask, vocabulary.bos, vocabulary.eos, vocabulary.null] == special
    assert vocabulary.size == len(tokenizer) == len(vocabulary.characters) == len(vocabulary.starts_word)
    assert vocabulary.forbidden.nonzero().flatten().tolist() == sorted(special[:4])
    assert vocabulary.characters[special].eq(0).all() and not vocabulary.starts_word[special].any()


def test_added_tokens_of_foreign_tokenizers(foreign: PreTrainedTokenizerBase) -> None:
    foreign.add_special_tokens({"extra_special_tokens": ["<|im_start|>"]})
    foreign.add_tokens(["<tool>"])
    vocabulary = Vocabulary.of(foreign)
    special, content = (foreign.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<tool>"))
    assert vocabulary.forbidden[special] and vocabulary.characters[special] == 0
    assert not vocabulary.forbidden[content] and vocabulary.characters[content] == len("<tool>")


def test_ids_without_a_token_are_never_content() -> None:
    sparse = Tokenizer(models.WordLevel({"a": 0, "b": 7}, unk_token="a"))
    vocabulary = Vocabulary.of(with_special_tokens(PreTrainedTokenizerFast(tokenizer_object=sparse)))
    assert not vocabulary.forbidden[[0, 7]].any() and vocabulary.forbidden[3]


def test_word_starts_are_blanks(tokenizer: PreTrainedTokenizerFast) -> None:
    starts_word = Vocabulary.of(tokenizer).starts_word
    first = {text: encode(tokenizer, text)[0] for text in (" They", " ", "They", "\n", "\t", "\u00a0")}
    assert {text: bool(starts_word[i]) for text, i in first.items()} == {text: text.startswith(" ") for text in first}


def test_special_ids_have_the_names_of_a_config(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = Vocabulary.of(tokenizer).special_ids()
    assert ids == {name: getattr(tokenizer, name) for name in ids}
    assert TransformerConfig(vocab_size=len(tokenizer), **ids).mask_token_id == tokenizer.mask_token_id


def test_toy() -> None:
    plain, null = Vocabulary.toy(3), Vocabulary.toy(3, null=True)
    assert (plain.size, plain.mask, plain.null) == (4, 3, None)
    assert (null.size, null.mask, null.null) == (5, 3, 4)
    assert null.forbidden.tolist() == [False, False, False, True, False]
    assert null.characters.tolist() == [1, 1, 1, 0, 0]
    assert torch.equal(null.to("cpu").starts_word, null.starts_word)
