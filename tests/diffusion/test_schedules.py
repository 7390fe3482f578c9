"""Laws of every noise schedule."""

import pytest
import torch

from textdiff.diffusion import Geometric, MaskedDiffusion, Polynomial
from textdiff.errors import UserError

GRID = torch.linspace(0, 1, 1001, dtype=torch.float64)


def test_falls_strictly_from_one_to_zero(schedule):
    alpha = schedule.alpha(GRID)
    assert alpha[0] == 1
    assert abs(alpha[-1]) < 1e-15
    assert (alpha.diff() < 0).all()


def test_derivative_is_that_of_autograd(schedule):
    t = GRID[1:].clone().requires_grad_()
    (slope,) = torch.autograd.grad(schedule.alpha(t).sum(), t)
    torch.testing.assert_close(schedule.alpha_prime(t), slope, rtol=1e-9, atol=1e-12)


def test_inverse_round_trip(schedule):
    torch.testing.assert_close(schedule.alpha(schedule.inverse(GRID)), GRID, rtol=0, atol=1e-12)
    interior = GRID[10:-10]
    torch.testing.assert_close(schedule.inverse(schedule.alpha(interior)), interior, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("masked", "visible"), [(1, 0), (1, 3), (2, 2), (4, 0)])
def test_loss_weight_integrates_to_the_beta_function(schedule, masked, visible):
    """The weight of each pattern of masks, int w(t) (1 - alpha)^k alpha^m dt = B(k, m + 1), whatever the schedule.

    Midpoints in u with t = u^2, which tames the end at 0; the grid's own error is below 1e-4. Where rounding makes
    alpha(t) = 1 nothing is ever masked.
    """
    u = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    t = u**2
    alpha = schedule.alpha(t)
    weight = MaskedDiffusion(schedule, mask_id=0).loss_weight(t)
    integral = torch.where(alpha < 1, weight * (1 - alpha) ** masked * alpha**visible * 2 * u, 0).mean()
    k, m = torch.tensor([masked, visible + 1], dtype=torch.float64)
    assert integral == pytest.approx(torch.exp(k.lgamma() + m.lgamma() - (k + m).lgamma()).item(), rel=1e-4)


@pytest.mark.parametrize("make", [lambda: Polynomial(0.0), lambda: Geometric(0.0, 1.0), lambda: Geometric(2.0, 1.0)])
def test_impossible_parameters_are_refused(make):
    with pytest.raises(UserError, match="schedule"):
        make()
