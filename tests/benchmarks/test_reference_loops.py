"""Cost of a step without the network, of this library and of the common loop: log-probabilities cost nothing.

B = 8, 128 tokens, 32 of them missing, a vocabulary of 50,000, temperature 1, draws in float64; processor time of one
CPU thread, in turn. Run with `pytest -m benchmark -s tests/benchmarks/test_reference_loops.py`; the rest is measured by
`textdiff bench`.
"""

import pytest
import torch

from textdiff.evaluation.bench import Bench
from textdiff.evaluation.ways import overhead

pytestmark = pytest.mark.benchmark


def test_the_cost_of_a_step_without_the_network() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = overhead(50_000, texts=8, length=128, gap=32, steps=8, rounds=3)
    finally:
        torch.set_num_threads(threads)
    print(f"\n{Bench((('a step', rows),), {})}")
    common = next(row for row in rows if row.way.startswith("common loop"))
    assert common.seconds is not None and rows[0].seconds is not None
    assert common.seconds / rows[0].seconds >= 15
