from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from textdiff.errors import UserError
from textdiff.text import Canvas, Gap, Template, Vocabulary, decode, encode

DEFAULT = Gap(1, 32)


def fill(tokenizer: PreTrainedTokenizerBase, canvas: Canvas, fills: Sequence[str]) -> Tensor:
    """The row with each gap holding a text, the rest of its slots null."""
    row = canvas.tokens[0].clone()
    for number, text in enumerate(fills):
        (slots,) = (canvas.gap[0] == number).nonzero(as_tuple=True)
        ids = encode(tokenizer, text, continues=True)
        row[slots] = tokenizer.null_token_id
        row[slots[: len(ids)]] = torch.tensor(ids, dtype=torch.long)
    return row


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Lily lost her ball. [gap] She was happy.", ("Lily lost her ball. ", DEFAULT, " She was happy.")),
        ("[gap]", (DEFAULT,)),
        ("[gap] a [gap:12]b[gap:4-16]", (DEFAULT, " a ", Gap(12, 12), "b", Gap(4, 16))),
        ("[gap: 0 - 3 ] a", (Gap(0, 3), " a")),
        (r"\[gap] a[gap]", ("[gap] a", DEFAULT)),
        (r"\[gap and \[gap:3] and \[gap year[gap:3]", ("[gap and [gap:3] and [gap year", Gap(3, 3))),
        (r"a\\[gap]", ("a\\", DEFAULT)),
        (r"a\\\[gap] [gap]", ("a\\[gap] ", DEFAULT)),
        (r"[gaps] \d \[x] \\ [[gap]]", (r"[gaps] \d \[x] \\ [", DEFAULT, "]")),
        ("\0 🙂\n[gap]\n", ("\0 🙂\n", DEFAULT, "\n")),
    ],
)
def test_parse_and_back(text: str, parts: tuple[str | Gap, ...]) -> None:
    template = Template.parse(text)
    assert template.parts == parts
    assert Template.parse(str(template)) == template
    assert template.gaps == tuple(part for part in parts if isinstance(part, Gap))


@pytest.mark.parametrize("text", ["\\", "\\\\", "[gap", "\\[gap]", "[gap:2-3", "x [gap\\", "[gap\\\\]"])
def test_any_text_can_be_escaped(text: str) -> None:
    template = Template((text, Gap(2, 2), text, Gap(1, 4), text))
    assert Template.parse(str(template)) == template


def test_default_length() -> None:
    assert Template.parse("a [gap] b [gap:2]", default=Gap(3, 5)).gaps == (Gap(3, 5), Gap(2, 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text is empty"),
        (" \n", "the text is empty"),
        ("Lily was sad.", r"has no gap: write \[gap\]"),
        (r"only \[gap]", "has no gap"),
        ("[gap:x] a", r"malformed gap marker '\[gap:x\]': expected \[gap\], \[gap:12\] or \[gap:4-16\]"),
        ("[gap:] a", "malformed"),
        ("[gap:-3] a", "malformed"),
        ("[gap:1-2-3] a", "malformed"),
        ("[gap 5] a", "malformed"),
        ("a [gap", r"malformed gap marker '\[gap'"),
        ("[gap:12345678]", "malformed"),
        ("[gap year is long] [gap]", r"write \\\[gap for literal text"),
        ("[gap:5-2] a", "a gap cannot have 5 to 2 tokens"),
        ("[gap:0] a", "a gap cannot have 0 to 0 tokens"),
        ("a [gap][gap:3] b", "two gaps have nothing between them"),
        ("\udce9 [gap]", "not valid Unicode"),
    ],
)
def test_errors_of_a_writer_are_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Template.parse(text)
    assert "\n" not in str(caught.value)


def test_canvas_of_a_template(tokenizer: PreTrainedTokenizerFast) -> None:
    canvas = Template.parse("It is [gap:2-3] un[gap:2]ing.").encode(tokenizer)
    before, between, after = (encode(tokenizer, text) for text in ("It is", " un", "ing."))
    mask = tokenizer.mask_token_id
    assert canvas.tokens.tolist() == [
        [tokenizer.bos_token_id, *before, *[mask] * 3, *between, *[mask] * 2, *after, tokenizer.eos_token_id]
    ]
    assert canvas.minimum.tolist() == [[2, 2]] and canvas.maximum.tolist() == [[3, 2]]
    assert torch.equal(canvas.slots, canvas.tokens == mask) and torch.equal(canvas.observed, ~canvas.slots)
    assert canvas.word_start.nonzero().tolist() == [[0, 1 + len(before)]], "only the first gap has a blank before it"


def test_typed_special_tokens_are_text(tokenizer: PreTrainedTokenizerFast) -> None:
    canvas = Template.parse("<|mask|><|null|> [gap:2] <|pad|>").encode(tokenizer)
    evidence = canvas.tokens[canvas.observed][1:-1]
    assert not Vocabulary.of(tokenizer).forbidden[evidence].any()
    assert tokenizer.null_token_id not in evidence


@pytest.mark.parametrize(
    ("template", "raw", "text", "fills"),
    [
        (
            "Lily lost her ball. [gap] She was happy.",
            [" They looked."],
            "Lily lost her ball. They looked. She was happy.",
            ["They looked."],
        ),
        ("un[gap]ing", ["chang"], "unchanging", ["chang"]),
        ("un[gap]", [" and out"], "un and out", [" and out"]),
        ("[gap] She", ["They."], "They. She", ["They."]),
        (" [gap] She", [" They."], " They. She", ["They."]),
        ("a  [gap].", [" b"], "a  b.", ["b"]),
        ("a\n[gap]\nc", ["b"], "a\nb\nc", ["b"]),
        ("a\n [gap]", [" b"], "a\n b", ["b"]),
        ("a [gap:0-3] c", [""], "a c", [""]),
        ("a [gap], [gap] d", [" b", "  c"], "a b,  c d", ["b", " c"]),
        ("a [gap] [gap:2-5] d", [" b", " c"], "a b c d", ["b", "c"]),
        ("🙂\0 [gap]שלום", [" 日本語"], "🙂\0 日本語שלום", ["日本語"]),
        (r"\[gap] is [gap:3-9].", [" <|mask|>"], "[gap] is <|mask|>.", ["<|mask|>"]),
    ],
)
def test_words_and_blanks_at_the_edges(
    tokenizer: PreTrainedTokenizerFast, template: str, raw: list[str], text: str, fills: list[str]
) -> None:
    parsed = Template.parse(template)
    canvas = parsed.encode(tokenizer)
    row = fill(tokenizer, canvas, raw)
    filled = parsed.decode(tokenizer, row)
    assert (filled.text, list(filled.fills)) == (text, fills)
    assert filled.text == decode(tokenizer, row.tolist()), "the text is that of the tokens"
    padded = torch.cat([row, row.new_full((3,), tokenizer.pad_token_id)])
    assert parsed.decode(tokenizer, padded) == filled
    starts_word = Vocabulary.of(tokenizer).starts_word | (torch.arange(len(tokenizer)) == tokenizer.null_token_id)
    assert starts_word[row[canvas.word_start[0]]].all(), "these fills are what the sampler may draw"


def test_known_text_survives_any_tokenizer(foreign: PreTrainedTokenizerBase) -> None:
    template = Template.parse("Lily É  lost. [gap:1-20] She ran.")
    filled = template.decode(foreign, fill(foreign, template.encode(foreign), [" They"]))
    fold = str.lower if foreign.cls_token else str
    assert filled.text == f"Lily É  lost. {fold('They')} She ran." and filled.fills == (fold("They"),)


def test_bytes_that_are_no_text_are_replaced(tokenizer: PreTrainedTokenizerFast) -> None:
    template = Template.parse("a [gap:2] é")
    row = fill(tokenizer, template.encode(tokenizer), [" "])
    row[row == tokenizer.null_token_id] = encode(tokenizer, "\U0010ffff")[0]
    assert template.decode(tokenizer, row).text == "a \ufffd é"


def test_decoding_needs_a_complete_row(tokenizer: PreTrainedTokenizerFast) -> None:
    template = Template.parse("a [gap:2] b")
    tokens = template.encode(tokenizer).tokens[0]
    for row in (tokens, tokens[:-1]):
        with pytest.raises(ValueError, match="every slot filled"):
            template.decode(tokenizer, row)


def test_many_rows_are_decoded_without_encoding_the_template_again(
    foreign: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = Template.parse("Lily lost. [gap:1-20] She [gap:1-9]ing")
    canvas = template.encode(foreign)
    fills = [[" They", "un"], [" She", "in"], [" They", "un"]]
    rows = torch.stack([fill(foreign, canvas, some) for some in fills])
    one_by_one = tuple(template.decode(foreign, row) for row in rows)
    monkeypatch.setattr(Template, "encode", None)
    assert template.decode_rows(foreign, canvas, rows) == one_by_one
    assert one_by_one[0] == one_by_one[2] != one_by_one[1]
    assert template.decode_rows(foreign, canvas, rows[:0]) == ()
