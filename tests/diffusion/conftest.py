import pytest

from textdiff.diffusion import Cosine, Geometric, Linear, NoiseSchedule, Polynomial


@pytest.fixture(
    params=[Linear(), Cosine(), Polynomial(2.0), Polynomial(1.5), Geometric(), Geometric(0.1, 3.0)], ids=str
)
def schedule(request: pytest.FixtureRequest) -> NoiseSchedule:
    """Every schedule in turn."""
    return request.param
