"""Shared by the tests of the denoising loop: canvases, enumerated fills with their scores, distances to a posterior."""

from functools import cache

from tests.helpers.laws import (
    canvas_of,
    seeded,
)
from textdiff.samplers import (
    path_log_prob,
    sample,
)
from textdiff.testing import enumerate_fills, frequencies, iid_noise, total_variation
from textdiff.testing.tables import TableDenoiser, TableOracle
from textdiff.text import Canvas, Vocabulary

PLAIN, NULLABLE = Vocabulary.toy(3), Vocabulary.toy(2, null=True)
WHOLE = [None] * 4  # one gap, nothing observed
GIVEN = [None, None, None, 1]
TWO_GAPS = [None, None, 1, None]
DRAWS = 6000


def score(denoiser, canvas, vocabulary, policy, tokens, **options):
    return path_log_prob(denoiser, canvas.repeat(len(tokens)), vocabulary, policy, tokens, **options).log_q


def enumerated(denoiser, canvas, vocabulary, policy, **options):
    """Every fill and its claimed probability."""
    tokens = enumerate_fills(canvas, vocabulary)
    return tokens, score(denoiser, canvas, vocabulary, policy, tokens, **options).exp()


@cache
def noise_of_iid_draws(row):
    canvas = canvas_of(Vocabulary.toy(4), row)
    return iid_noise(TableOracle.random(4, 4, sharpness=1.5).posterior(canvas.tokens)[0], DRAWS)


def distance_to_posterior(policy, row, steps=None):
    vocabulary, oracle = Vocabulary.toy(4), TableOracle.random(4, 4, sharpness=1.5)
    canvas = canvas_of(vocabulary, row)
    drawn = sample(oracle, canvas.repeat(DRAWS), vocabulary, policy, seeded(1))
    assert set(drawn.steps.tolist()) == {steps or row.count(None)}, "not one token per step"
    return total_variation(oracle.posterior(canvas.tokens)[0], frequencies(drawn.tokens, oracle.outcomes))


def ragged(null):
    """Rows with different gaps, evidence and lengths, one of them complete; padded with id 0."""
    vocabulary = NULLABLE if null else PLAIN
    rows = [WHOLE, TWO_GAPS, [0, 1, 1], GIVEN, [None, 0], [None], [1, None, None, None], TWO_GAPS, [None, 1, None, 0]]
    minimum = [[1], [1, 0], [], [3], [0], [1], [0], [0, 0], [1, 0]] if null else [None] * len(rows)
    canvases = [canvas_of(vocabulary, row, least) for row, least in zip(rows, minimum, strict=True)]
    return vocabulary, TableDenoiser(3, 4, seed=6, null=null), Canvas.stack(canvases, pad_id=0)
