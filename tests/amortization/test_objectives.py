"""Objectives, against sums over everything that can be drawn."""

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor

from textdiff.amortization import forward_kl, reverse_kl, trajectory_balance, vargrad

LOGITS = torch.tensor([0.3, -1.0, 0.8, 0.1], dtype=torch.float64)
TARGET = torch.tensor([-2.0, -40.0, -2.5, -1.0], dtype=torch.float64)  # unnormalised
POSTERIOR = TARGET.log_softmax(0)


def expected_gradient(loss: Callable[[Tensor, Tensor], Tensor], draws: int) -> Tensor:
    """Of a loss over all tuples of independent draws of q, each with its probability."""
    total = torch.zeros_like(LOGITS)
    for fills in product(range(len(LOGITS)), repeat=draws):
        logits = LOGITS.clone().requires_grad_()
        log_q = logits.log_softmax(0)[list(fills)]
        loss(log_q[None], TARGET[list(fills)][None]).backward()
        assert logits.grad is not None
        total += log_q.sum().exp().detach() * logits.grad
    return total


def gradient_of_reverse_kl() -> Tensor:
    logits = LOGITS.clone().requires_grad_()
    log_q = logits.log_softmax(0)
    (log_q.exp() * (log_q - POSTERIOR)).sum().backward()
    assert logits.grad is not None
    return logits.grad


@pytest.mark.parametrize("draws", [2, 3, 4])
@pytest.mark.parametrize("loss", [partial(vargrad, reach=1e6), reverse_kl], ids=["vargrad", "reverse KL"])
def test_on_policy_the_gradient_is_that_of_the_reverse_kl(loss: Callable[[Tensor, Tensor], Tensor], draws: int) -> None:
    assert torch.allclose(expected_gradient(loss, draws), gradient_of_reverse_kl(), atol=1e-12)


def test_vargrad_and_leave_one_out_have_one_gradient_draw_by_draw() -> None:
    found = []
    for loss in (vargrad, reverse_kl):
        logits = LOGITS.clone().requires_grad_()
        loss(logits.log_softmax(0)[[0, 2, 3]][None], TARGET[[0, 2, 3]][None]).backward()
        found.append(logits.grad)
    assert torch.allclose(*found, atol=1e-12)


def test_at_the_posterior_nothing_is_left_whoever_draws() -> None:
    fills = torch.tensor([[0, 0, 2, 3], [3, 2, 0, 2]])
    log_q, log_target = POSTERIOR[fills], TARGET[fills] + torch.tensor([[5.0], [-7.0]])  # a constant of each evidence
    assert vargrad(log_q, log_target) < 1e-20
    log_z = TARGET.logsumexp(0) + torch.tensor([5.0, -7.0], dtype=torch.float64)
    assert trajectory_balance(log_q, log_target, log_z) < 1e-20
    assert trajectory_balance(log_q, log_target, log_z.mean().expand(2)) > 1  # one log Z for both is wrong


def test_a_text_that_is_ruled_out_is_learnt_away_without_nan() -> None:
    logits = LOGITS.clone().requires_grad_()
    target = torch.tensor([[-1.0, -torch.inf], [-torch.inf, -torch.inf]], dtype=torch.float64)
    loss = vargrad(logits.log_softmax(0)[torch.tensor([[0, 1], [0, 1]])], target)
    loss.backward()
    assert logits.grad is not None
    assert loss.isfinite() and logits.grad.isfinite().all()
    assert logits.grad[0] < 0 < logits.grad[1]


def test_a_fill_that_q_cannot_draw_changes_nothing() -> None:
    logits = LOGITS.clone().requires_grad_()
    log_q = logits.log_softmax(0)
    impossible = torch.cat((log_q[[0, 2, 3]], torch.full((1,), -torch.inf)))
    target = torch.cat((TARGET[[0, 2, 3]], torch.zeros(1)))
    for loss in (
        vargrad(impossible[None], target[None]) - vargrad(log_q[[0, 2, 3]][None], TARGET[[0, 2, 3]][None]) * 2 / 3,
        trajectory_balance(impossible[None], target[None], torch.zeros(1))
        - trajectory_balance(log_q[[0, 2, 3]][None], TARGET[[0, 2, 3]][None], torch.zeros(1)) * 3 / 4,
    ):
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        assert float(loss.abs()) < 1e-12 and float(gradient.abs().max()) < 1e-12


def test_the_weighted_cross_entropy_has_the_gradient_of_the_forward_kl() -> None:
    logits = LOGITS.clone().requires_grad_()
    forward_kl(logits.log_softmax(0)[None], TARGET[None]).backward()
    assert torch.allclose(logits.grad, LOGITS.softmax(0) - POSTERIOR.exp(), atol=1e-12)
    dead = torch.full((1, 4), -torch.inf, dtype=torch.float64)
    assert forward_kl(LOGITS.log_softmax(0)[None], dead) == 0


def test_the_variance_of_vargrad_is_a_small_share_of_that_of_the_wrong_sign() -> None:
    """The toy of the audit: 20 outcomes, log r of -40 +- 4, 16 draws. A plus in place of the minus keeps the mean
    gradient to O(1/K) and multiplies the noise; the threshold of 1/10 is the issue's, what is measured is 1/300."""
    generator = torch.Generator().manual_seed(0)
    log_r = -40 + 4 * torch.randn(20, generator=generator, dtype=torch.float64)

    def wrong_sign(log_q: Tensor, log_target: Tensor) -> Tensor:
        gap = log_q - log_target
        return (gap + gap.mean(dim=1, keepdim=True)).square().mean() / 4  # so that it has the same mean gradient

    def variance(loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        gradients = []
        for _ in range(2000):
            logits = torch.zeros(20, dtype=torch.float64, requires_grad=True)
            fills = torch.randint(20, (16,), generator=generator)  # q is uniform
            loss(logits.log_softmax(0)[fills][None], log_r[fills][None]).backward()
            assert logits.grad is not None
            gradients.append(logits.grad)
        found = torch.stack(gradients)
        return found.var(dim=0).sum(), found.mean(dim=0)

    (right, mean), (wrong, _) = variance(vargrad), variance(wrong_sign)
    assert right < wrong / 10
    exact = (log_r.mean() - log_r) / 20  # the gradient of KL(uniform || r)
    assert (mean - exact).norm() < 0.05 * exact.norm() + 3 * (right / 2000).sqrt()
