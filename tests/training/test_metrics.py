import math

import pytest
import torch

from textdiff.training import BitsPerCharacter, NatsPerToken


def test_totals_are_summed_before_they_are_divided() -> None:
    metric = NatsPerToken()
    metric.update(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), 3)
    metric.update(torch.tensor(10.0), torch.tensor(1))
    assert metric.compute() == pytest.approx(16 / 4)
    metric.reset()
    metric.update(torch.tensor(1.0), 2)
    assert metric.compute() == pytest.approx(0.5)


def test_bits_per_character() -> None:
    metric = BitsPerCharacter()
    metric.update(torch.tensor([math.log(2) * 6]), 4)
    metric.update(torch.tensor([math.log(2) * 2]), torch.tensor(4))
    assert metric.compute() == pytest.approx(1.0)


def test_small_terms_are_not_lost() -> None:
    metric = NatsPerToken()
    metric.update(torch.tensor(1e8), 1)
    for _ in range(100):
        metric.update(torch.tensor(0.5), 1)
    assert metric.nats == 1e8 + 50


@pytest.mark.parametrize("kind", [NatsPerToken, BitsPerCharacter])
def test_processes_add_their_totals(kind: type[NatsPerToken | BitsPerCharacter]) -> None:
    alone, first, second = kind(), kind(), kind()
    for metric in (alone, first):
        metric.update(torch.tensor(3.0), 5)
    for metric in (alone, second):
        metric.update(torch.tensor(9.0), 1)
    first._reduce_states(second.metric_state)
    assert first.compute() == pytest.approx(float(alone.compute()))


def test_less_is_better() -> None:
    assert NatsPerToken.higher_is_better is False and BitsPerCharacter.higher_is_better is False
