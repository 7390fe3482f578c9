import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from textdiff.errors import UserError
from textdiff.text import SPECIAL_TOKENS, decode, encode, load_tokenizer, train_tokenizer, with_special_tokens

TEXTS = [
    "",
    " ",
    "  two blanks  ",
    "Lily lost her ball.",
    "\0a\0\0",
    "\r\n\t\v\f\u00a0\u2028\u3000",
    "e\u0301 \u0301 A\u030a Å ﬁ",
    "שלום \u202eעולם مرحبا",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈 🇫🇷",
    "\ufeff\ufffe\uffff\U0010ffff\ufffd",
    "don't 3.14 x_y --foo !?",
    *SPECIAL_TOKENS.values(),
    "say <|mask|> and <|null|><|eos|>",
]


def special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return [getattr(tokenizer, f"{name}_id") for name in SPECIAL_TOKENS]


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip_is_lossless_and_never_special(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    for continues in (False, True):
        ids = encode(tokenizer, text, continues)
        assert decode(tokenizer, ids, continues) == text
        assert not set(ids) & set(special_ids(tokenizer))


def test_round_trip_of_random_unicode(tokenizer: PreTrainedTokenizerFast) -> None:
    rng = random.Random(0)
    points = [*range(0xD800), *range(0xE000, 0x110000)]
    for _ in range(300):
        text = "".join(chr(rng.choice((rng.randrange(256), rng.choice(points)))) for _ in range(rng.randrange(1, 20)))
        assert decode(tokenizer, encode(tokenizer, text)) == text


def test_the_tokenizer_itself_takes_typed_special_tokens_as_text(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.mask_token_id not in tokenizer("<|mask|>")["input_ids"]


def test_training_is_bounded_and_reproducible(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = ["the cat sat on the mat", "the dog sat on the log"] * 5
    one, two = train_tokenizer(texts, 280), train_tokenizer(iter(texts), 280)
    assert one.get_vocab() == two.get_vocab()
    assert len(one) <= 280 and len(encode(one, "the cat sat")) < len("the cat sat")
    assert sorted(special_ids(one)) == [0, 1, 2, 3, 4]


def test_training_without_room_for_bytes_fails() -> None:
    with pytest.raises(UserError, match="vocab_size is 260, but bytes and special tokens take 261"):
        train_tokenizer(["a"], 260)
    with pytest.raises(UserError, match="vocab_size is 1000000000, but at most 1,048,576 tokens"):
        train_tokenizer(["x"], 10**9)


def test_special_tokens_survive_saving(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "one")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "one")
    assert special_ids(loaded) == special_ids(tokenizer) and loaded.null_token == "<|null|>"
    assert encode(loaded, "She <|mask|> é") == encode(tokenizer, "She <|mask|> é")
    loaded.save_pretrained(tmp_path / "two")
    again = load_tokenizer(tmp_path / "two")
    assert special_ids(again) == special_ids(tokenizer) and again.get_vocab() == tokenizer.get_vocab()
    assert str(tmp_path) not in (tmp_path / "two" / "tokenizer_config.json").read_text()


def test_foreign_tokenizer_gets_what_it_lacks(bare: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    before, size = dict(bare.special_tokens_map), len(bare)
    stand_ins = {"bos_token": bare.cls_token, "eos_token": bare.sep_token}
    tokenizer = with_special_tokens(bare)
    assert tokenizer is bare
    assert before.items() <= tokenizer.special_tokens_map.items()
    lacking = [name for name in SPECIAL_TOKENS if name not in before and not stand_ins.get(name)]
    assert "null_token" in lacking and len(tokenizer) == size + len(lacking)
    ids = special_ids(tokenizer)
    assert None not in ids and ids.count(tokenizer.mask_token_id) == ids.count(tokenizer.null_token_id) == 1
    assert not set(encode(tokenizer, "".join(SPECIAL_TOKENS.values()))) & set(ids)

    assert len(with_special_tokens(tokenizer)) == size + len(lacking), "a second time adds nothing"
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert special_ids(loaded) == ids and len(loaded) == len(tokenizer)


def test_continuing_text_keeps_its_own_blank(foreign: PreTrainedTokenizerBase) -> None:
    for text in (" They", " she") if foreign.cls_token else (" They", " she", "ing"):
        ids = encode(foreign, text, continues=True)
        assert decode(foreign, ids, continues=True) == (text.lower() if foreign.cls_token else text)


def broken(folder: Path, tokenizer: PreTrainedTokenizerFast, file: str, content: str | None) -> Path:
    tokenizer.save_pretrained(folder)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    return folder


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", None),
        ("tokenizer.json", '{"version": "1.0", "mod'),
        ("tokenizer.json", '{"version": "1.0"}'),
        ("tokenizer_config.json", '{"ver'),
    ],
)
def test_damaged_tokenizer(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, file: str, content: str | None) -> None:
    with pytest.raises(UserError, match=r"no tokenizer could be read from .*: expected a folder") as caught:
        load_tokenizer(broken(tmp_path, tokenizer, file, content))
    assert "\n" not in str(caught.value)


def test_absent_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        load_tokenizer(tmp_path / "storis")
    with pytest.raises(UserError, match="no tokenizer could be read"):
        load_tokenizer(tmp_path)
