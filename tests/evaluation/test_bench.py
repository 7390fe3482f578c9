"""`textdiff bench`: every way fills all rows, and the table shows what was measured."""

import json

import pytest
import torch

from tests.helpers.tiny import tiny
from textdiff.data import HeldOutGap
from textdiff.errors import UserError
from textdiff.evaluation.bench import Bench, cases
from textdiff.evaluation.likelihoods import GapLikelihood, likelihoods
from textdiff.evaluation.random_networks import networks, random_canvas, vocabulary_of
from textdiff.evaluation.statistics import Estimate
from textdiff.evaluation.timing import Timed
from textdiff.evaluation.ways import end_to_end, overhead
from textdiff.posterior import seeded
from textdiff.samplers import Strided, path_log_prob


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    network, baseline = networks(40, 32, layers=1, width=16)
    return network, baseline, vocabulary_of(network)


def test_every_way_is_measured_on_every_fill(pair):
    network, baseline, vocabulary = pair
    canvas = random_canvas(vocabulary, 2, 24, 6)
    rows = end_to_end(network, baseline, vocabulary, canvas, 3, steps=(2, 3), reference_steps=(6,), rounds=1)
    passes = {row.way: row.passes for row in rows}
    assert passes.pop("reuse when unchanged, 6 steps") <= 6
    assert passes == {
        "strided, 2 steps": 2,
        "strided, 3 steps": 3,
        "naive: strided, 2 steps": 2,
        "common loop, 6 steps": 6,
        "the AR baseline, this library": 6,
        "the AR baseline, transformers.generate": 6,
    }
    assert all(row.seconds > 0 for row in rows)


def test_ways_that_would_take_too_long_are_left_out(pair):
    network, _, vocabulary = pair
    canvas = random_canvas(vocabulary, 1, 24, 6)
    rows = end_to_end(network, None, vocabulary, canvas, 1, steps=(2,), reference_steps=(6,), rounds=1, most=1e-9)
    assert [row.way for row in rows if row.seconds is None] == ["common loop, 6 steps", "reuse when unchanged, 6 steps"]
    assert "| common loop, 6 steps | too long |" in str(Bench((("a", rows),), {}))


def test_the_cost_of_a_step_without_the_network():
    rows = overhead(50, texts=2, length=16, gap=8, steps=4, rounds=1)
    assert len(rows) == 6
    assert {row.passes for row in rows[:-1]} == {4}


def test_likelihoods_are_path_log_probs_per_character():
    prior = tiny()
    policies, items = (Strided(3), Strided(2)), []
    for start in (3, 6):
        text = torch.randint(10, 200, (1, 20), generator=seeded(start))
        items.append(HeldOutGap.cut(text, [start], 6, prior.vocabulary.mask))
    found = likelihoods(prior.network, None, prior.vocabulary, items, steps=(3, 2), reference_steps=())
    nats = torch.tensor(
        [
            [
                -float(path_log_prob(prior.network, canvas, prior.vocabulary, policy, text).log_q.detach())
                for canvas, text in items
            ]
            for policy in policies
        ],
        dtype=torch.float64,
    )
    characters = torch.tensor([float(prior.vocabulary.characters[text[canvas.slots]].sum()) for canvas, text in items])
    assert list(found) == ["strided, 3 steps", "strided, 2 steps"]
    for (first, second), one in zip(((0, 0), (0, 1)), found.values(), strict=True):
        assert one.nats.value == pytest.approx(float(nats[second].sum() / characters.sum()), rel=1e-5)
        assert one.above.value == pytest.approx(
            float((nats[second] - nats[first]).sum() / characters.sum()), rel=1e-4
        )  # float32, alone and in batches


def test_standard_errors_agree_with_the_spread_over_repetitions():
    generator = seeded(0)
    characters = torch.randint(80, 160, (4000, 100), generator=generator).double()
    nats = 0.7 * characters + 5 * torch.randn(4000, 100, generator=generator)
    found = [GapLikelihood.of(some, some, many) for some, many in zip(nats, characters, strict=True)]
    spread = torch.tensor([one.nats.value for one in found]).std()
    assert abs(torch.tensor([one.nats.error for one in found]).mean() / spread - 1) < 0.05
    assert {one.above for one in found} == {Estimate(0.0, 0.0)}


def test_a_table_is_relative_to_its_first_row():
    rows = (
        Timed("ours", 0.5, 8, 2**20, GapLikelihood(Estimate(0.7, 0.02), Estimate(0.0, 0.0))),
        Timed("theirs", 2.0, 32),
    )
    found = Bench((("a case", rows),), {"seed": 0})
    assert str(found).splitlines()[2:] == [
        "| ours | 500 | 1 | 8 | 1 | 0.700 ± 0.020 | +0.000 ± 0.000 |",
        "| theirs | 2e+03 | 4 | 32 |  |  |  |",
    ]
    assert json.loads(found.json())["cases"][0][1][1]["seconds"] == 2.0


def test_the_grid_is_every_combination():
    assert len(list(cases((1, 8), (1, 16, 256), (128,), (2048, 50_000), 32))) == 12


def test_mistakes(pair):
    with pytest.raises(UserError, match="no room for a gap of 32"):
        random_canvas(pair[2], 1, 20, 32)
    with pytest.raises(UserError, match="too small"):
        networks(5, 32)
