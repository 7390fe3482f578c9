"""Limits of templates and canvases: parsing is linear, and what is too large is refused before it is tokenised."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.helpers.tiny import tiny
from textdiff.errors import UserError
from textdiff.evidence import Observed, Question
from textdiff.text import Canvas, Gap, Template

PRIOR = tiny()
MASK = PRIOR.vocabulary.mask


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """A guard against work that grows with the square of a text."""

    def late(*given: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(10)
    yield
    signal.signal(signal.SIGALRM, before)
    signal.alarm(0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[gap:999999] x " * 30, "at most 65536 are allowed"),
        ("[gap:1] x" * 1_000_000, "at most 65536 are allowed"),
        (
            "\\" * 40_000 + "x[gap]",
            "the text takes 400.. tokens, 32 of them in gaps, and the model",
        ),
        ("\\" * 400_000, "has no gap"),
        ("a\\" * 300_000 + " [gap]", "the text has 600001 characters, and the model reads at most 512 tokens"),
        ("x " * 5_000_000 + "[gap]", "the text has 10000000 characters"),
        ("\\[gap]" * 100_000 + "[gap]", "the text has 500000 characters"),
        ("[gap:1] x" * 3000, "the gaps of the text take 3000 tokens, and the model reads at most 512"),
        ("[gap:60000] x", "the gaps of the text take 60000 tokens"),
        ("[gap" * 100_000, "malformed"),
        ("[" * 1_000_000 + "x", "has no gap"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_too_large_is_refused_at_once(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        PRIOR.given(text)


def test_pieces_of_evidence_are_checked_one_by_one() -> None:
    for evidence in (Observed("x " * 1_000_000 + "[gap:3]") & Observed("[gap:3]"), Question("x " * 1_000_000)):
        with pytest.raises(UserError, match=r"the text has \d+ characters"):
            PRIOR.given(evidence)


def test_backslashes_are_written_and_read_in_linear_time() -> None:
    template = Template(("\\" * 200_000, Gap(1, 2), "\\[gap" * 20_000))
    assert Template.parse(str(template)) == template


CANVAS = Canvas.of(torch.tensor([[5, MASK, MASK, 6, MASK]]), MASK)


def changed(**tensors: Any) -> Canvas:
    return replace(CANVAS, **tensors)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Canvas.of([[5, MASK]], MASK), "tokens is "),
        (lambda: Canvas.of(torch.tensor([[5.0]]), MASK), r"tokens is float32 \[1, 1\]: expected int64"),
        (lambda: Canvas.of(torch.tensor([5, MASK]), MASK), "expected int64 .batch, length."),
        (lambda: Canvas.of(torch.zeros(1, 0, dtype=torch.long), MASK), "at least one token"),
        (lambda: Canvas.of(torch.tensor([[5, MASK]]), "m"), "mask_id is 'm'"),
        (lambda: changed(observed=CANVAS.observed[:, 1:]), "observed of a canvas is bool"),
        (lambda: changed(gap=CANVAS.gap.int()), "gap of a canvas is int32"),
        (lambda: changed(minimum=None), "minimum is None, expected a tensor"),
        (lambda: changed(dfa=1.5), "dfa is 1.5, expected the automaton of a constraint, or None"),
        (lambda: changed(tokens=torch.full_like(CANVAS.tokens, 10**9)), "id 1000000000, outside a vocabulary of"),
        (lambda: changed(tokens=torch.full_like(CANVAS.tokens, -1)), "id -1, outside"),
        (lambda: changed(tokens=CANVAS.tokens.masked_fill(CANVAS.slots, 5)), "the mask id at all slots"),
        (lambda: changed(observed=torch.ones_like(CANVAS.observed)), "observed=False"),
        (lambda: changed(gap=CANVAS.gap.clamp(max=0)), "other numbers than 0, 1"),
        (lambda: changed(gap=torch.where(CANVAS.slots, CANVAS.gap + 7, -1)), "other numbers than 0, 1"),
        (lambda: changed(minimum=CANVAS.minimum + 1), "above the number of its slots"),
        (lambda: changed(minimum=CANVAS.minimum - 9), "below 0"),
        (lambda: Canvas.of(torch.zeros(1, 10**6, dtype=torch.long), MASK), "reads at most 512"),
        (lambda: Canvas.of(torch.tensor([[5, MASK], [5, MASK]]), MASK), "the canvas has 2 rows"),
    ],
)
def test_canvases_given_as_tensors_are_checked(make: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        PRIOR.given(make())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("parts", ["a[gap]", ["a", Gap(1, 2)], ("a", 5), ("", Gap(1, 2)), None])
def test_a_template_is_made_of_texts_and_gaps(parts: Any) -> None:
    with pytest.raises(UserError, match=r"parts is .*expected a tuple of texts"):
        Template(parts)
    with pytest.raises(UserError, match="the minimum of a gap is '1'"):
        Gap("1", 2)  # type: ignore[arg-type]
