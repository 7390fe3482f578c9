"""The masking process: which masks are drawn, and that the weights of both forms of the objective are unbiased."""

import itertools

import numpy as np
import pytest
import torch

from textdiff.diffusion import (
    low_discrepancy_times,
    mask_exactly,
    mask_from_random_step,
    mask_random_subset,
    mask_stratified_subsets,
    subset_weight,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


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


def test_a_generator_fixes_the_draws():
    assert torch.equal(low_discrepancy_times(4, generator(0)), low_discrepancy_times(4, generator(0)))
    assert not torch.equal(low_discrepancy_times(4, generator(0)), low_discrepancy_times(4, generator(1)))


def test_a_subset_weighs_n_over_k_in_numbers_and_in_tensors():
    assert [subset_weight(6, k) for k in (0, 1, 4, 6)] == [6, 6, 1.5, 1]
    n, k = torch.tensor([6, 3]), torch.tensor([4.0, 0.0], dtype=torch.float64)
    assert torch.equal(subset_weight(n, k), torch.tensor([1.5, 3.0], dtype=torch.float64))


def test_a_random_subset_has_every_size_as_often_and_only_maskable_positions():
    """8000 draws: 4 sizes within 4.5 standard deviations of 2000, and so each position among those of size 1."""
    maskable, rng = np.array([False, True, True, False, True, True]), np.random.default_rng(0)
    draws = [mask_random_subset(maskable, rng) for _ in range(8000)]
    masked, weights = (np.stack(some) for some in zip(*draws, strict=True))
    size = masked.sum(1)
    assert not masked[:, ~maskable].any() and weights.dtype == np.float32
    np.testing.assert_allclose(weights, masked * 4 / size[:, None], rtol=1e-6)
    assert (abs(np.bincount(size, minlength=5)[1:] - 2000) < 4.5 * (8000 * 3 / 16) ** 0.5).all()
    single = masked[size == 1][:, maskable].sum(0)
    assert (abs(single - single.mean()) < 4.5 * (single.sum() * 3 / 16) ** 0.5).all()


def test_nothing_maskable_is_no_error():
    masked, weights = mask_random_subset(np.zeros(3, dtype=bool), np.random.default_rng(0))
    assert not masked.any() and not weights.any()


@pytest.mark.parametrize("lookahead", [0.0, 0.3, 1.0])
def test_weights_of_a_random_step_are_unbiased(lookahead):
    """Averaged over the steps each slot weighs 1 in the order's own estimate, and all slots sum to their number."""
    order, steps = np.array([0, 2, 1, 0, 2]), 3
    by_step = {}
    for seed in range(40):
        masked, weights = mask_from_random_step(order, steps, np.random.default_rng(seed), lookahead)
        step = int(order[masked].min())
        assert (masked == (order >= step)).all() and not weights[~masked].any()
        by_step[step] = weights
    mean = sum(by_step.values()) / steps
    assert sorted(by_step) == [0, 1, 2] and mean.sum() == pytest.approx(5)
    assert lookahead or (mean == 1).all()


def test_stratified_subsets_have_every_size_equally_often_in_each_row():
    maskable = torch.tensor([[True, True, False, True], [False, True, True, True]])
    masked, weights = mask_stratified_subsets(maskable, 6, generator())
    assert masked.shape == (12, 4) and weights.dtype == torch.float64
    size = masked.sum(-1)
    assert torch.equal(size.view(6, 2).sort(0).values, torch.tensor([1, 1, 2, 2, 3, 3])[:, None].expand(6, 2))
    assert torch.equal(weights, 3 / size.double())
    assert not (masked & ~maskable.repeat(6, 1)).any()
