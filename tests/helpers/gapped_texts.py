"""Texts with gaps of all kinds, and their canvases, alone and in one batch."""

from textdiff.text import Canvas, Template

TEXTS = [
    "Lily lost her ball. [gap:6] She was happy.",
    "Lily [gap:2-5] her [gap:3]. She [gap:0-4] happy again.",
    "Tom had [gap:2-4] [gap:0-3] dog.",  # nothing but a blank between the gaps
    "un[gap:1-3]ing",
    "[gap:3]",
    "[gap:0-2] end",
]


def encoded(prior, text, n=1):
    return Template.parse(text).encode(prior.tokenizer).repeat(n)


def ragged(prior, n=3):
    """All texts in one batch, some of them several times."""
    return Canvas.stack([encoded(prior, text, n) for text in TEXTS], prior.vocabulary.pad)
