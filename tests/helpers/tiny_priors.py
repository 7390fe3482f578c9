"""Fixtures: the priors of `tests.helpers.tiny`."""

import pytest

from tests.helpers.tiny import tiny
from textdiff.posterior import Prior


@pytest.fixture(scope="session")
def diffusion() -> Prior:
    return tiny()


@pytest.fixture(scope="session")
def autoregressive() -> Prior:
    return tiny(causal=True)


@pytest.fixture(params=["diffusion", "autoregressive"])
def prior(request: pytest.FixtureRequest) -> Prior:
    """A diffusion prior, then an autoregressive one."""
    built: Prior = request.getfixturevalue(request.param)
    return built
