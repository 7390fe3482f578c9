"""Shared by the tests of samplers: policies by kind, canvases on toy vocabularies, tools of textdiff.testing."""

import torch

from textdiff.samplers import (
    Blocks,
    ByConfidence,
    Cap,
    Dependence,
    Dilated,
    Entropy,
    EntropyBounded,
    ErrorBudget,
    LeftToRight,
    LogProbKind,
    Loop,
    Margin,
    PathPlanning,
    RandomOrder,
    Remasking,
    Rescale,
    SampledConfidence,
    Strided,
    Threshold,
    TopProbability,
)
from textdiff.testing import enumerate_fills as fills  # noqa: F401
from textdiff.testing import frequencies, iid_noise, total_variation  # noqa: F401
from textdiff.text import Canvas

DEPENDENCE = Dependence(((0.2, 0.05, 0.01),) * 4)
ONE_BY_ONE = (
    LeftToRight(),
    Strided(4),
    Dilated(4),
    Entropy(),
    Entropy(4),
    Margin(),
    TopProbability(),
    EntropyBounded(0.0),
    Threshold(1.0),
    ErrorBudget(0.0, DEPENDENCE),
    RandomOrder(),
    RandomOrder(4),
    Blocks(Strided(2), 2),
    Blocks(Entropy(), 3),
    Blocks(RandomOrder(), 2),
)
SEVERAL_AT_ONCE = (
    Strided(1),
    Strided(2),
    Strided(3),
    Dilated(),
    Dilated(2),
    Entropy(1),
    Entropy(2),
    Entropy(3),
    Margin(2),
    TopProbability(3),
    EntropyBounded(1.0),
    Threshold(0.45),
    ErrorBudget(0.15, DEPENDENCE),
    ErrorBudget(9.0, DEPENDENCE),
    RandomOrder(2),
    RandomOrder(3),
    Blocks(Strided(1), 2),
    Blocks(Entropy(2), 3),
    Blocks(RandomOrder(2), 3),
)
WITHOUT_DENSITY = (
    SampledConfidence(2),
    Remasking(3, Rescale(0.5)),
    Remasking(9, Cap(0.2)),
    Remasking(12, ByConfidence(), Loop()),
    PathPlanning(3, 2.0),
    PathPlanning(None, 2.0),
    Blocks(Remasking(5, Cap(0.3)), 3),
    Blocks(PathPlanning(None, 3.0), 3),
)
EXACT = tuple(policy for policy in ONE_BY_ONE + SEVERAL_AT_ONCE if policy.kind is LogProbKind.EXACT)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def canvas_of(vocabulary, row, minimum=None, word_start=()):
    """One row: a symbol is evidence, `None` a slot; runs of slots are gaps, of exact length without a `minimum`."""
    tokens = torch.tensor([[vocabulary.mask if symbol is None else symbol for symbol in row]])
    canvas = Canvas.of(tokens, vocabulary.mask)
    start = canvas.word_start.clone()
    start[:, list(word_start)] = True
    least = canvas.minimum if minimum is None else torch.tensor([minimum], dtype=torch.long)
    return Canvas(canvas.tokens, canvas.observed, canvas.gap, least, start)
