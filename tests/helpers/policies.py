"""Shared by the tests of unmasking policies: states, and the steps of a policy without a denoiser."""

import torch

from tests.helpers.laws import seeded
from textdiff.samplers import State
from textdiff.samplers.lengths import rank_and_size

RAGGED = torch.tensor([[-1, 0, 0, 0, 0, 0, -1, 1, 1, 1], [0, -1, 1, 1, -1, 2, -1, -1, -1, -1], [0] * 10])


def one_gap(n):
    return torch.zeros(1, n, dtype=torch.long)


def state_of(log_probs, gap):
    rank, size = rank_and_size(gap)
    noise = torch.zeros(gap.shape, dtype=torch.float64)
    return State(torch.zeros_like(gap), gap >= 0, gap, rank, size, log_probs, noise, torch.full_like(gap, -1))


def walk(policy, gap, seed=0):
    """The slots that a policy reveals and hides, step by step, of gaps `[batch, length]` with random marginals."""
    generator = seeded(seed)
    rank, size = rank_and_size(gap)
    masked, when, step = gap >= 0, torch.full_like(gap, -1), 0
    canvas, confidence = torch.zeros_like(gap), torch.zeros(gap.shape, dtype=torch.float64)
    while (rows := masked.any(dim=1)).any():
        where = masked[rows]
        log_probs = torch.randn(int(where.sum()), 5, dtype=torch.float64, generator=generator).log_softmax(-1)
        noise = torch.rand(where.shape, dtype=torch.float64, generator=generator)
        seen = canvas[rows], where, gap[rows], rank[rows], size[rows], log_probs, noise, when[rows], canvas[rows]
        state = State(*seen, confidence[rows])
        chosen, again = policy.reveal(state), policy.hide(state)
        assert not (chosen & ~where).any() and not (again & ~state.filled).any()
        assert chosen.any(dim=1).all()
        revealed, hidden = torch.zeros_like(masked), torch.zeros_like(masked)
        revealed[rows], hidden[rows] = chosen, again
        confidence[rows] = confidence[rows].masked_scatter(chosen, log_probs[chosen[where], 0]).masked_fill(again, 0.0)
        masked, when = masked & ~revealed | hidden, when.masked_fill(revealed, step).masked_fill(hidden, -1)
        yield revealed, hidden
        step += 1


def rounds(policy, gap, seed=0):
    """The slots that a policy reveals, step by step, bool `[steps, batch, length]`."""
    return torch.stack([revealed for revealed, _ in walk(policy, gap, seed)])
