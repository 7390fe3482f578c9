"""Canvases for causal priors on the vocabulary of `tests.helpers.networks`: bos, evidence with gaps, eos."""

import torch

from tests.helpers.networks import BOS, EOS, MASK
from textdiff.text import Canvas


def canvas_of(*row, minimum=None, gap=None, word_start=()):
    """Bos, the row with `None` for slots, eos; runs of slots are gaps unless their numbers are given."""
    tokens = torch.tensor([[BOS, *(MASK if token is None else token for token in row), EOS]])
    canvas = Canvas.of(tokens, MASK)
    numbers = canvas.gap if gap is None else torch.tensor([[-1, *gap, -1]])
    least = canvas.minimum if minimum is None else torch.tensor([minimum])
    start = canvas.word_start.index_fill(1, torch.tensor([i + 1 for i in word_start], dtype=torch.long), True)
    return Canvas(tokens, canvas.observed, numbers, least, start)


CANVASES = {
    "known length": canvas_of(0, 1, None, None, 2),
    "unknown length": canvas_of(0, 1, None, None, 2, minimum=[1]),
    "perhaps empty": canvas_of(0, 1, None, None, 2, minimum=[0]),
    "two gaps": canvas_of(0, None, 1, None, None, 2, minimum=[0, 1]),
    "adjacent gaps": canvas_of(0, None, None, None, 1, gap=[-1, 0, 0, 1, -1], minimum=[0, 0]),
    "words": canvas_of(0, None, None, 3, minimum=[1], word_start=[1]),
}
