"""Laws of the masking process, its reverse, its times and its random subsets."""

import itertools

import torch
import torch.nn.functional as F

from textdiff.diffusion import Cosine, Linear, MaskedDiffusion, low_discrepancy_times, mask_exactly, random_order

MASK = 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def times(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_corruption_rate(schedule):
    """The masked share is 1 - alpha(t) within 5 binomial standard deviations; nothing at t = 0, all at t = 1."""
    process, t = MaskedDiffusion(schedule, MASK), times(0.0, 0.2, 0.5, 0.9, 1.0)
    tokens = torch.randint(0, MASK, (5, 20000), generator=generator(1))
    canvas = process.corrupt(tokens, t, torch.ones_like(tokens, dtype=torch.bool), generator())
    hidden = canvas == MASK
    rate = 1 - schedule.alpha(t)
    deviation = (rate * (1 - rate) / tokens.shape[1]).clamp(min=0).sqrt()
    assert ((hidden.double().mean(-1) - rate).abs() <= 5 * deviation).all()
    assert torch.equal(canvas[~hidden], tokens[~hidden])
    assert torch.equal(hidden.all(-1), t == 1)
    assert torch.equal(~hidden.any(-1), t == 0)


def test_only_maskable_positions_change():
    tokens = torch.randint(0, MASK, (50, 8), generator=generator(1))
    maskable = torch.rand(50, 8, generator=generator(2)) < 0.5
    canvas = MaskedDiffusion(Linear(), MASK).corrupt(tokens, torch.ones(50), maskable, generator())
    assert torch.equal(canvas == MASK, maskable)


def test_reverse_posterior_is_bayes_rule(schedule):
    """With the clean token x known: sum over x_t of q(x_t | x) q(x_s | x_t, x) is q(x_s | x)."""
    process = MaskedDiffusion(schedule, MASK)
    s, t = times(0.3), times(0.8)
    canvas = torch.tensor([[1, MASK]])
    clean = F.one_hot(torch.tensor([[1, 1]]), MASK + 1).double().log()
    backward = process.reverse_posterior(canvas, clean, t, s)[0]
    visible_t = schedule.alpha(t)
    at_s = visible_t * backward[0] + (1 - visible_t) * backward[1]
    visible_s = schedule.alpha(s).item()
    torch.testing.assert_close(at_s, times(0, visible_s, 0, 1 - visible_s))


def test_reverse_steps_compose(schedule):
    """Masked tokens survive t -> r -> s as often as t -> s, and at s = 0 none does."""
    process = MaskedDiffusion(schedule, MASK)
    t, r, s = times(0.9), times(0.5), times(0.1)
    stay = [1 - process.unmask_probability(*pair) for pair in ((t, r), (r, s), (t, s))]
    torch.testing.assert_close(stay[0] * stay[1], stay[2])
    torch.testing.assert_close(process.unmask_probability(t, times(0.0)), times(1.0))


def test_reverse_posterior_is_a_law_and_keeps_visible_tokens():
    log_probs = torch.randn(2, 5, MASK + 1, generator=generator()).log_softmax(-1)
    canvas = torch.tensor([[0, MASK, 1, MASK, 2], [MASK, MASK, MASK, 1, 1]])
    law = MaskedDiffusion(Cosine(), MASK).reverse_posterior(canvas, log_probs, times(0.5, 0.9), times(0.2, 0.8))
    torch.testing.assert_close(law.sum(-1), torch.ones(2, 5, dtype=torch.float64), rtol=0, atol=1e-6)
    visible = canvas != MASK
    assert torch.equal(law[visible], F.one_hot(canvas[visible], MASK + 1).double())


def test_times_fill_every_stratum_once_and_each_row_is_uniform():
    """Over 2000 seeds the first row's mean and second moment lie within 5 standard errors of 1/2 and 1/3."""
    draws = torch.stack([low_discrepancy_times(7, generator(seed)) for seed in range(2000)])
    assert draws.dtype == torch.float64
    assert ((draws > 0) & (draws <= 1)).all()
    assert torch.equal((draws * 7).ceil().sort(-1).values, torch.arange(1, 8).expand(2000, 7).double())
    first = draws[:, 0]
    assert abs(first.mean() - 1 / 2) < 5 * (1 / 12 / 2000) ** 0.5
    assert abs((first**2).mean() - 1 / 3) < 5 * (4 / 45 / 2000) ** 0.5


def test_each_row_has_one_time_in_every_stratum_of_its_samples():
    t = low_discrepancy_times(3, generator(), samples=8).view(8, 3)
    assert torch.equal((t * 8).ceil(), torch.arange(1, 9.0).double()[:, None].expand(8, 3))
    assert torch.equal((t * 24).ceil().flatten().sort().values, torch.arange(1, 25.0).double())


def test_exact_masks_have_their_size_and_every_subset_is_as_likely():
    """24000 draws of 2 of 4 maskable positions: chi-square with 5 degrees of freedom below 20.5 (p = 0.001)."""
    maskable = torch.tensor([False, True, True, False, True, True]).expand(24000, 6)
    masked = mask_exactly(maskable, torch.full((24000,), 2), generator())
    assert not (masked & ~maskable).any()
    assert (masked.sum(-1) == 2).all()
    codes = masked[:, [1, 2, 4, 5]].long() @ torch.tensor([1, 2, 4, 8])
    counts = torch.stack([(codes == (1 << i) + (1 << j)).sum() for i, j in itertools.combinations(range(4), 2)])
    assert ((counts - 4000) ** 2 / 4000).sum() < 20.5


def test_ragged_exact_masks():
    maskable = torch.tensor([[True] * 5, [True, False, True, False, False], [False] * 5])
    for k in itertools.product(range(6), range(3), range(1)):
        masked = mask_exactly(maskable, torch.tensor(k), generator())
        assert masked.sum(-1).tolist() == list(k)
        assert not (masked & ~maskable).any()


def test_random_order_ranks_the_maskable_positions_first():
    maskable = torch.rand(100, 6, generator=generator()) < 0.6
    rank = random_order(maskable, generator())
    assert torch.equal(rank.sort(-1).values, torch.arange(6).expand(100, 6))
    assert torch.equal(rank < maskable.sum(-1, keepdim=True), maskable)


def test_a_generator_fixes_the_draws():
    assert torch.equal(low_discrepancy_times(4, generator(0)), low_discrepancy_times(4, generator(0)))
    assert not torch.equal(low_discrepancy_times(4, generator(0)), low_discrepancy_times(4, generator(1)))
