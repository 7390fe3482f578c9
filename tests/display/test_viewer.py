"""The viewer shows what the sampler did: which token in which step, in its place, and nothing that a browser runs."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from textdiff.display import Denoising, denoising_html, fills_html
from textdiff.display.text import readable, segments, visible
from textdiff.display.viewer import CONTEXT
from textdiff.posterior import Prior
from textdiff.samplers import POLICIES, Cap, LogProbKind, PathPlanning, Remasking, UnmaskingPolicy
from textdiff.text import Filled, Gap, Template
from textdiff.text.vocabulary import token_bytes

TEXTS = (
    "Lily lost her [gap:6]. She was happy.",
    "[gap:2-9] her ball",
    "Tom <b>saw</b> a\n[gap:3] & his \"dog\" [gap:1-8]",
    "un[gap:0-4]ing [gap:0-3] [gap:0-2] end",
)  # fmt: skip


class Page(HTMLParser):
    """Checks that elements nest, and keeps the attributes, and the text of each row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[dict[str, str]] = []
        self.attributes: list[tuple[str, str]] = []
        self.column = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "meta":
            return
        self.open.append(tag)
        kind = dict(attrs).get("class")
        if kind == "row":
            self.rows.append({"side": "", "text": ""})
        self.column = kind if kind in ("side", "text") else self.column

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.column = "" if tag == "div" else self.column

    def handle_data(self, data: str) -> None:
        if self.rows and self.column:
            self.rows[-1][self.column] += data


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("seed", range(4))
def test_the_tokens_of_a_gap_are_its_fill(prior: Prior, text: str, seed: int) -> None:
    denoising = Denoising.of(prior, text, seed=seed)
    assert denoising.filled == prior.infill(text, seed=seed)[0]
    for gap, fill in zip(denoising.gaps, denoising.filled.fills, strict=True):
        joined = b"".join(token.content for token in gap).decode("utf-8", "replace")
        assert fill in (joined, joined.removeprefix(" "))


@pytest.mark.parametrize("text", TEXTS)
def test_each_step_reveals_something_and_hides_nothing(prior: Prior, text: str) -> None:
    denoising = Denoising.of(prior, text, seed=0)
    steps = sorted({token.step for gap in denoising.gaps for token in gap})
    assert steps == list(range(1, denoising.steps + 1))
    known = [
        [token is not None for gap in denoising.frame(step) for token in gap] for step in range(denoising.steps + 1)
    ]
    assert not any(known[0]) and all(known[-1])
    for before, after in pairwise(known):
        assert sum(after) > sum(before) and all(late >= early for early, late in zip(before, after, strict=True))


def test_strided_steps_are_shown_as_they_were_taken(diffusion: Prior) -> None:
    denoising = Denoising.of(diffusion, "Lily lost her [gap:11].", seed=0, policy="strided", steps=4)
    assert [token.step for token in denoising.gaps[0]] == [rank % 4 + 1 for rank in range(11)]
    assert (denoising.tokens, denoising.steps, denoising.nfe) == (11, 4, 4)


@pytest.mark.parametrize("policy", [Remasking(9, Cap(0.5)), PathPlanning(6, 3.0)], ids=str)
def test_tokens_that_are_masked_again_are_shown_while_they_stood(diffusion: Prior, policy: UnmaskingPolicy) -> None:
    text, canvases = "Lily lost her [gap:8].", []
    denoising = Denoising.of(diffusion, text, seed=0, policy=policy)
    diffusion.infill(text, seed=0, policy=policy, watch=lambda tokens, _: canvases.append(tokens))
    gap = Template.parse(text).encode(diffusion.tokenizer).slots
    contents, again = token_bytes(diffusion.tokenizer), 0
    for step, canvas in enumerate(canvases, 1):
        standing = [token.at(step) for token in denoising.gaps[0]]
        shown = [None if token is None else token.content for token in standing]
        ids = [None if i == diffusion.vocabulary.mask else i for i in canvas[gap].tolist()]
        assert shown == [None if i is None else contents[i] for i in ids]
        assert any(token is not None and token.step == step for token in standing)
        again += sum(token is not None and token.until == step + 1 for token in standing)
    assert denoising.steps == len(canvases) and again == sum(len(token.earlier) for token in denoising.gaps[0]) > 0
    rows = Page(denoising_html(diffusion, text, seed=0, policy=policy)).rows
    assert [row["side"] for row in rows] == ["canvas", *(str(step) for step in range(1, len(canvases) + 1))]
    assert rows[-1]["text"] == visible(denoising.filled.text)


def test_a_drawn_length_is_a_forward_pass_but_no_step(diffusion: Prior) -> None:
    denoising = Denoising.of(diffusion, "Lily lost her [gap:2-9].", seed=0, policy="left-to-right")
    assert denoising.steps == denoising.tokens == denoising.nfe - 1


def test_the_baseline_is_shown_from_left_to_right(autoregressive: Prior) -> None:
    denoising = Denoising.of(autoregressive, "Lily lost her [gap:2-5]. She [gap:3].", seed=0)
    steps = [token.step for gap in denoising.gaps for token in gap]
    assert steps == list(range(1, denoising.tokens + 1))
    assert denoising.nfe == denoising.tokens


@pytest.mark.parametrize("text", TEXTS)
def test_the_page_has_a_row_for_each_step_and_ends_with_the_text(prior: Prior, text: str) -> None:
    denoising = Denoising.of(prior, text, seed=0)
    page = Page(denoising_html(prior, text, seed=0))
    unknown = any(gap.minimum < gap.maximum for gap in denoising.template.gaps)
    steps = [str(step) for step in range(1, denoising.steps + 1)]
    assert [row["side"] for row in page.rows] == ["canvas", *["length"] * unknown, *steps]
    assert page.rows[-1]["text"] == visible(denoising.filled.text).replace("\n", "↵\n")
    canvas = page.rows[0]["text"]
    assert canvas.count("░") == sum(gap.maximum for gap in denoising.template.gaps)
    parts = ["░" if isinstance(part, Gap) else part.replace("\n", "↵") for part in denoising.template.parts]
    shown, expected = (re.sub("░+", "░", "".join(text.split())) for text in (canvas, "".join(parts)))
    assert shown == expected


def test_each_row_outlines_the_tokens_of_its_step(prior: Prior) -> None:
    text = "Lily [gap:9] ball and [gap:2-6]."
    denoising = Denoising.of(prior, text, seed=0)
    rows = denoising_html(prior, text, seed=0).split('<div class="row">')[-denoising.steps :]
    for step, row in enumerate(rows, 1):
        shown = [
            (token.step, text)
            for gap, texts in zip(denoising.gaps, denoising.frame(step), strict=True)
            for token, text in zip(gap, texts, strict=True)
            if text
        ]
        assert row.count("<mark class=new") == sum(when == step for when, _ in shown)
        assert row.count("<mark ") == len(shown)
        hues = re.findall(r"--hue:(\d+)", row)
        assert len(set(hues)) == len({when for when, _ in shown})


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_in_the_html_is_loaded_or_run(prior: Prior, text: str) -> None:
    fills = prior.infill(text, n=3, seed=0)
    for html in (denoising_html(prior, text, seed=0), Denoising.of(prior, text)._repr_html_(), fills_html(fills, text)):
        page = Page(html)
        assert not re.search(r"<(script|link|img|iframe|object|b>saw)|@import|url\(|https?:", html)
        assert {name for name, _ in page.attributes} <= {
            "lang", "charset", "name", "content", "class", "style", "data-text",
        }  # fmt: skip
        assert "\x1b" not in html and "\0" not in html


def test_text_that_looks_like_html_is_shown_as_it_is(diffusion: Prior) -> None:
    text = '<script>alert("1")</script> [gap:2] &amp; </div>'
    page = Page(denoising_html(diffusion, text, seed=0))
    assert page.rows[-1]["text"].startswith('<script>alert("1")</script> ')
    assert page.rows[-1]["text"].endswith(" &amp; </div>")
    fills = diffusion.infill(text, n=2, seed=0)
    assert [row["text"] for row in Page(fills_html(fills, text)).rows] == [
        visible(filled.text).replace("\n", "↵\n") for filled in fills
    ]


def test_long_known_text_is_shown_whole_only_at_the_end(diffusion: Prior) -> None:
    before, after = "Once upon a time. " * 8, " And so it went on." * 8
    *earlier, last = Page(denoising_html(diffusion, f"{before}[gap:3]{after}", seed=0)).rows
    assert last["text"].startswith(before.rstrip()) and last["text"].endswith(after)
    for row in earlier:
        assert row["text"].startswith("… ") and row["text"].endswith(" …")
        assert len(row["text"]) < 2 * CONTEXT + 40


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_shown_with_what_its_score_is(diffusion: Prior, name: str) -> None:
    denoising = Denoising.of(diffusion, "Lily lost her [gap:5].", seed=0, policy=name)
    html = denoising._repr_html_()
    assert (denoising.log_q is None) == (denoising.kind is LogProbKind.NONE)
    score = "no log q" if denoising.log_q is None else f"log q {denoising.log_q:.2f} nats ({denoising.kind})"
    assert score in html
    assert denoising.label in html
    assert ("not a posterior sample" in html) == (denoising.log_q is None)
    fills = fills_html(diffusion.infill("Lily lost her [gap:5].", n=2, policy=name), "Lily lost her [gap:5].")
    assert ("not posterior samples" in fills) == (denoising.log_q is None)


@pytest.mark.parametrize("sharpened", [{"temperature": 0.7}, {"top_p": 0.9}])
def test_a_sharpened_draw_is_labelled(diffusion: Prior, sharpened: dict[str, float]) -> None:
    assert "not a posterior sample" in denoising_html(diffusion, "Lily lost her [gap:5].", **sharpened)


@pytest.mark.parametrize("text", TEXTS)
def test_segments_join_to_the_text_and_hold_the_fills(prior: Prior, text: str) -> None:
    template = Template.parse(text)
    for filled in prior.infill(text, n=12, seed=1):
        pieces = segments(template, filled)
        assert "".join(piece for piece, _ in pieces) == filled.text
        assert {gap: piece for piece, gap in pieces if gap is not None} == {
            gap: fill for gap, fill in enumerate(filled.fills) if fill
        }


@pytest.mark.parametrize(
    ("text", "fills", "whole"),
    [
        ("a [gap:0-2] b", ("",), "a b"),
        ("a [gap:0-2] b", ("",), "a  b"),  # the fill is a single blank
        ("a [gap:0-2] [gap] b", ("", "c"), "a c b"),
        ("a [gap:0-2] [gap] b", ("", "c"), "a  c b"),
        ("a [gap:0-2]", ("",), "a"),
    ],
)
def test_segments_of_empty_fills(text: str, fills: tuple[str, ...], whole: str) -> None:
    pieces = segments(Template.parse(text), Filled(whole, fills))
    assert "".join(piece for piece, _ in pieces) == whole


def test_characters_spread_over_tokens_are_read_with_their_beginning() -> None:
    smile = "🙂".encode()
    assert readable([b" a", smile[:1], smile[1:3], smile[3:] + b"b"]) == (" a", "🙂", "", "b")
    assert readable([b"a", None, smile[2:]]) == ("a", None, "��")
    assert readable([smile[:2], None]) == ("�", None)


def test_control_characters_become_pictures() -> None:
    assert visible("a\x1b[31m\0\r\tb\n\x9b") == "a␛[31m␀␍\tb\n�"
