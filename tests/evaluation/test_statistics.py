"""Estimates agree with their formulas, and tables are laid out as before."""

import math

import pytest
import torch

from textdiff.evaluation.statistics import Estimate, Interval
from textdiff.evaluation.table import Table, caption


def test_a_mean_with_its_standard_error() -> None:
    found = Estimate.of(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert found.value == 3 and found.error == pytest.approx(math.sqrt(14 / 3) / 2)
    assert math.isnan(Estimate.of(torch.tensor([1.0])).error)
    assert str(found) == "3.000 ± 1.080" and found.signed() == "+3.000 ± 1.080"


def test_a_ratio_of_equal_units_is_a_mean() -> None:
    values, units = torch.tensor([1.0, 2.0, 3.0, 6.0]).double(), torch.full((4,), 2.0).double()
    unbiased, biased = (Estimate.ratio(values, units, unbiased=unbiased) for unbiased in (True, False))
    mean = Estimate.of(values / 2)
    assert unbiased.value == biased.value == mean.value
    assert unbiased.error == pytest.approx(mean.error)
    assert biased.error == pytest.approx(mean.error * math.sqrt(3 / 4))


def test_an_interval_as_a_cell() -> None:
    assert Interval.mean([]).cell() == "" and Interval.mean([math.inf, 1.0]).cell() == "inf"
    assert Interval(0.5, 0.25, 0.75).cell() == "0.500 [0.250, 0.750]"
    assert Interval(0.5, 0.25, 0.75).percent() == "50.0 [25.0, 75.0]"


def test_tables() -> None:
    table = Table(["", "a<b"], [["x", "1"], ["2"]])
    assert table.markdown() == "|  | a<b |\n|---|---|\n| x | 1 |\n| | 2 |"
    assert table.markdown("| --- ").splitlines()[1] == "| --- | --- |"
    assert table.html() == "<table><tr><th><th>a&lt;b<tr><td>x<td>1<tr><td>2</table>"
    assert caption({"gaps": 3, "seed": 0}) == "gaps 3, seed 0"
