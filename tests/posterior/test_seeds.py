"""Seeds: all 64 bits count, small ones give what they always gave, and others are refused."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator

from tests.helpers.tiny import tiny
from textdiff.errors import UserError
from textdiff.posterior import infill_batch, seeded

PRIOR = tiny()
TEXT = "Lily lost [gap:6] again."
BEYOND = (2**32, 2**32 + 1, 2**33, 2**63 - 1, 2**63, 2**64 - 1)


def numbers(seed: int) -> list[int]:
    return torch.randint(2**62, (64,), generator=seeded(seed)).tolist()


def test_small_seeds_are_those_of_torch() -> None:
    for seed in (0, 1, 12345, 2**32 - 1, np.int64(7)):
        generator = Generator().manual_seed(int(seed))
        assert numbers(seed) == torch.randint(2**62, (64,), generator=generator).tolist()


def test_large_seeds_have_streams_of_their_own() -> None:
    streams = [numbers(seed) for seed in (0, 1, 2**32 - 1, *BEYOND)]
    assert len({tuple(stream) for stream in streams}) == len(streams)
    assert all(len(set(stream)) == len(stream) for stream in streams)
    assert numbers(2**40) == numbers(2**40)
    uniforms = torch.rand(10_000, generator=seeded(2**40))
    assert abs(float(uniforms.mean()) - 0.5) < 0.02 and abs(float(uniforms.std()) - 12**-0.5) < 0.02


def test_fills_differ_where_seeds_do() -> None:
    fills = [tuple(PRIOR.infill(TEXT, 4, seed=seed).texts) for seed in (0, *BEYOND)]
    assert len(set(fills)) == len(fills)
    alone = [PRIOR.infill(TEXT, 4, seed=seed).tokens for seed in BEYOND[:2]]
    together = infill_batch([PRIOR.given(TEXT)] * 2, 4, BEYOND[:2])
    assert all(torch.equal(one, other.tokens) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize(
    "seed",
    [-1, 2**64, 10**5000, 1.0, True, "0", float("nan"), [1], torch.tensor(1)],
    ids=lambda seed: type(seed).__name__,
)
def test_anything_else_is_refused(seed: Any) -> None:
    for ask in (lambda: PRIOR.infill(TEXT, seed=seed), lambda: PRIOR.given(TEXT).sample(generator=seed)):
        with pytest.raises(UserError, match=r"seed is .*expected a seed from 0 to 2\*\*64 - 1"):
            ask()
