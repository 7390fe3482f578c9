"""Peak memory of a piece of work."""

from pathlib import Path

import pytest
import torch

from textdiff.evaluation.memory import peak


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident memory is read from /proc")
def test_the_peak_includes_memory_that_is_freed():
    with peak(torch.device("cpu")) as large:
        torch.ones(25_000_000).sum()
    with peak(torch.device("cpu")) as small:
        pass
    assert large.bytes is not None and 90e6 < large.bytes < 150e6
    assert small.bytes is not None and small.bytes < 10e6
