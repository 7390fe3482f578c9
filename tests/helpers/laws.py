"""What the sampler's tests share: canvases on toy vocabularies, all fills of a gap, and the noise of iid draws."""

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
    least = canvas.minimum if minimum is None else torch.tensor([minimum])
    return Canvas(canvas.tokens, canvas.observed, canvas.gap, least, start)


def fills(canvas, vocabulary):
    """Every way to put content or null into the slots of a one-row canvas: tokens `[fills, length]`."""
    ids = (~vocabulary.forbidden).nonzero()[:, 0]
    slots = canvas.slots[0]
    choices = torch.cartesian_prod(*[ids] * int(slots.sum())).view(-1, int(slots.sum()))
    tokens = canvas.tokens.repeat(len(choices), 1)
    tokens[:, slots] = choices
    return tokens


def frequencies(drawn, outcomes):
    """Share of each of `outcomes [outcomes, length]` among the rows `drawn [draws, length]`, float64."""
    base = int(outcomes.max()) + 1
    power = base ** torch.arange(outcomes.shape[1])
    keys, index = (outcomes @ power).sort()
    place = torch.searchsorted(keys, drawn @ power)
    assert (keys[place] == drawn @ power).all()
    return torch.zeros(len(outcomes), dtype=torch.float64).index_add(
        0, index[place], torch.full((len(drawn),), 1 / len(drawn), dtype=torch.float64)
    )


def total_variation(p, q):
    return float((p - q).abs().sum() / 2)


def iid_noise(law, draws, repeats=50):
    """Mean total variation between `law [outcomes]` and the frequencies of iid draws from it."""
    counts = torch.stack(
        [
            torch.multinomial(law, draws, replacement=True, generator=seeded(r)).bincount(minlength=len(law))
            for r in range(repeats)
        ]
    )
    return float((counts / draws - law).abs().sum(dim=1).mean() / 2)
