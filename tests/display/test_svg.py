"""The denoising as one SVG image."""

import re
from xml.etree import ElementTree

import pytest

from textdiff.display import Denoising, denoising_svg
from textdiff.posterior import Prior

TEXT = "Lily lost her ball. She <looked> for it & [gap:3-5] She was happy again, and so was Tom."
SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    """The text elements, labels left out, in document order."""
    elements = ElementTree.fromstring(svg).iter(f"{SVG}text")
    return [element.text or "" for element in elements if element.get("class") is None]


@pytest.mark.parametrize("columns", [30, 200])
def test_every_step_shows_the_text_as_far_as_it_is_known(diffusion: Prior, columns: int) -> None:
    denoising = Denoising.of(diffusion, TEXT, seed=0, steps=2)
    svg = denoising_svg(denoising, columns)
    words = "".join(texts(svg)).replace(" ", "")
    known = "Lilylostherball.She<looked>forit&"
    assert words.count(known) == denoising.steps + 1
    final = "".join(denoising.filled.text.split()).replace("\n", "")
    assert final in words


def test_masked_slots_have_a_box_and_no_text(diffusion: Prior) -> None:
    denoising = Denoising.of(diffusion, TEXT, seed=0, steps=2)
    root = ElementTree.fromstring(denoising_svg(denoising))
    masked = [box for box in root.iter(f"{SVG}rect") if box.get("fill") == "#8a8f98"]
    revealed = [sum(token.step <= step for gap in denoising.gaps for token in gap) for step in range(3)]
    assert len(masked) == sum(denoising.tokens - count for count in revealed)


def test_no_line_is_wider_than_the_image(diffusion: Prior) -> None:
    root = ElementTree.fromstring(denoising_svg(Denoising.of(diffusion, TEXT, seed=1, steps=3), columns=40))
    width = float(root.get("width", "0"))
    for text in root.iter(f"{SVG}text"):
        if text.get("class") is None:
            assert float(text.get("x", "0")) + float(text.get("textLength", "0")) <= width
    assert re.fullmatch(r"\d+(\.\d+)?", root.get("height", ""))
