"""Random streams, categorical draws, temperature and top-p."""

import pytest
import torch

from tests.helpers.laws import seeded
from textdiff.samplers import Tempering, categorical
from textdiff.samplers.random_streams import Streams, uniforms


def chi_square(counts, probs):
    expected = probs * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def test_streams_are_splitmix64():
    # The first outputs for seed 1234567 of the reference implementation (Vigna, splitmix64.c).
    reference = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    values = uniforms(torch.tensor(1234567), torch.arange(4))
    assert values.tolist() == [(word >> 11) * 2.0**-53 for word in reference]


def test_uniforms_are_uniform_and_streams_unrelated():
    values = uniforms(torch.arange(200)[:, None], torch.arange(500))
    cells = (values.flatten() * 100).long().bincount(minlength=100)
    assert chi_square(cells, torch.full((100,), 0.01)) < 160  # 99 degrees of freedom: p = 1e-4
    correlation = torch.corrcoef(values).fill_diagonal_(0.0).abs().max()
    assert correlation < 0.25  # 19,900 pairs, 500 numbers each: the largest of iid draws is about 0.19


def test_a_row_uses_each_number_of_its_stream_once_whatever_the_padding():
    slots = torch.tensor([[False, True, True, False, True], [True, False, False, False, False]])
    streams = Streams.of(seeded(), slots)
    rows = torch.tensor([0, 1])
    seen = [half[slots] for call in range(3) for half in streams.uniforms(rows, torch.full((2,), call))]
    first = torch.stack([part[:3] for part in seen]).flatten()
    assert torch.equal(first, uniforms(streams.seeds[0], torch.arange(18)))
    padded = Streams(streams.seeds, torch.cat((slots, torch.zeros_like(slots)), dim=1))
    again = padded.uniforms(rows[1:], torch.tensor([2]))[1][padded.slots[1:]]
    assert torch.equal(again, seen[5][3:])


def test_draws_follow_the_probabilities():
    probs = torch.tensor([0.4, 0.0, 0.3, 0.2, 0.07, 0.03, 0.0], dtype=torch.float64)
    uniform = torch.rand(100_000, dtype=torch.float64, generator=seeded())
    counts = categorical(probs.log().expand(len(uniform), -1), uniform).bincount(minlength=7)
    assert counts[1] == counts[6] == 0
    assert chi_square(counts[probs > 0], probs[probs > 0]) < 23.5  # 4 degrees of freedom: p = 1e-4


@pytest.mark.parametrize("uniform", [0.0, 0.25, 1 - 2.0**-53])
def test_a_category_without_probability_is_never_drawn(uniform):
    probs = torch.tensor([[0.0, 0.25, 0.0, 0.75 - 1e-17, 0.0]], dtype=torch.float64)
    assert categorical(probs.log(), torch.tensor([uniform], dtype=torch.float64)).item() in (1, 3)


def test_tails_are_reached_where_float32_gumbel_noise_never_gets():
    tail = 1e-9
    log_probs = torch.tensor([1 - tail, tail], dtype=torch.float64).log()
    # A stratum of 1e-7 at the end of the unit interval, cut into 1e5 equal cells: 1e3 of them belong to the tail.
    uniform = 1 - (torch.arange(100_000, dtype=torch.float64) + 0.5) * 1e-12
    assert categorical(log_probs.expand(len(uniform), -1), uniform).sum() == 1000
    finest = torch.tensor([2.0**-24, 1 - 2.0**-24], dtype=torch.float32)  # the extremes that float32 uniforms take
    lowest, highest = (-(-finest.log()).log()).tolist()
    assert log_probs[1] + highest < log_probs[0] + lowest, "float32 noise could draw the tail after all"


def test_temperature_is_a_power_of_the_probabilities():
    probs = torch.randn(5, 7, dtype=torch.float64, generator=seeded()).softmax(-1)
    for temperature in (0.5, 2.0):
        power = probs ** (1 / temperature)
        assert torch.allclose(Tempering(temperature)(probs.log()).exp(), power / power.sum(-1, keepdim=True))


def test_top_p_keeps_the_smallest_set_of_that_mass():
    log_probs = torch.tensor([[0.1, 0.4, 0.0, 0.3, 0.2]], dtype=torch.float64).log()
    for top_p, kept in ((1.0, [0, 1, 3, 4]), (0.95, [0, 1, 3, 4]), (0.85, [1, 3, 4]), (0.65, [1, 3]), (1e-9, [1])):
        mass = Tempering(top_p=top_p)(log_probs).exp()[0]
        assert mass.nonzero()[:, 0].tolist() == kept
        assert torch.allclose(mass[kept], log_probs.exp()[0, kept] / log_probs.exp()[0, kept].sum())


def test_a_tiny_temperature_leaves_the_likeliest_token():
    log_probs = torch.tensor([[0.1, 0.6, 0.0, 0.3]]).log()
    assert Tempering(1e-300)(log_probs).exp().tolist() == [[0.0, 1.0, 0.0, 0.0]]


def test_temperature_zero_is_greedy_and_ties_go_to_the_first():
    log_probs = torch.tensor([[0.3, 0.3, 0.0, 0.4], [0.0, 0.5, 0.5, 0.0]]).log()
    assert Tempering(0)(log_probs).exp().tolist() == [[0, 0, 0, 1], [0, 1, 0, 0]]


@pytest.mark.parametrize(
    "top_k, top_p, kept", [(3, 1.0, [1, 3, 4]), (9, 1.0, [0, 1, 3, 4]), (3, 0.7, [1, 3]), (1, 1.0, [1])]
)
def test_top_k_cuts_before_top_p(top_k, top_p, kept):
    probs = torch.tensor([[0.1, 0.4, 0.0, 0.3, 0.2]], dtype=torch.float64)
    mass = Tempering(top_k=top_k, top_p=top_p)(probs.log()).exp()[0]
    assert mass.nonzero()[:, 0].tolist() == kept
    assert torch.allclose(mass[kept], probs[0, kept] / probs[0, kept].sum())


@pytest.mark.parametrize(
    "temperature, top_p", [(float("inf"), 1.0), (-1.0, 1.0), (float("nan"), 1.0), (1.0, 0.0), (1.0, 1.1)]
)
def test_tempering_out_of_range_is_refused(temperature, top_p):
    with pytest.raises(ValueError, match="expected"):
        Tempering(temperature, top_p)
