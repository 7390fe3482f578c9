"""The NELBO of masked diffusion, in continuous time and with an exact number of masks."""

import torch
from torch import Tensor

from textdiff.denoisers.denoiser import Denoiser, token_log_probs
from textdiff.diffusion.process import MaskedDiffusion, low_discrepancy_times, mask_exactly


def nelbo(
    denoiser: Denoiser,
    tokens: Tensor,
    observed: Tensor,
    process: MaskedDiffusion,
    generator: torch.Generator,
    samples: int = 1,
    chunk: int = 2**14,
) -> Tensor:
    """Unbiased estimate of the continuous-time NELBO, nats per row `[batch]` (arXiv:2406.07524, eq. 10).

    Its mean bounds `-log p(tokens[~observed] | observed)` from above and is the same for every schedule.

    Args:
        denoiser: The network.
        tokens: Complete texts `[batch, length]`.
        observed: Bool `[batch, length]`; these positions are never masked and not counted.
        process: Schedule and mask id.
        generator: Source of times and masks.
        samples: Times per row, stratified.
        chunk: Most canvas tokens per forward pass.
    """
    t = low_discrepancy_times(len(tokens), generator, samples, tokens.device)
    maskable = ~observed.repeat(samples, 1)
    canvas = process.corrupt(tokens.repeat(samples, 1), t, maskable, generator)
    masked = maskable & (canvas == process.mask_id)
    return _weighted_loss(denoiser, tokens, observed, process.mask_id, masked, process.loss_weight(t), chunk)


def nelbo_exact_k(
    denoiser: Denoiser,
    tokens: Tensor,
    observed: Tensor,
    mask_id: int,
    generator: torch.Generator,
    samples: int = 1,
    chunk: int = 2**14,
) -> Tensor:
    """Unbiased estimate of the NELBO that masks exactly k of n tokens, nats per row `[batch]` (arXiv:2502.09992).

    k is uniform on 1..n, where n counts the unobserved tokens of the row, and the loss is weighted by n / k. No time is
    clamped, so that the value is a bound, and its variance is bounded too: use this form to evaluate. With `samples` a
    multiple of n each k occurs equally often. Arguments as for `nelbo`.
    """
    t = low_discrepancy_times(len(tokens), generator, samples, tokens.device)
    maskable = ~observed.repeat(samples, 1)
    n = maskable.sum(-1)
    k = (t * n).ceil().long()
    masked = mask_exactly(maskable, k, generator)
    return _weighted_loss(denoiser, tokens, observed, mask_id, masked, n / k.clamp(min=1).double(), chunk)


def _weighted_loss(
    denoiser: Denoiser, tokens: Tensor, observed: Tensor, mask_id: int, masked: Tensor, weight: Tensor, chunk: int
) -> Tensor:
    """Cross-entropy of the masked tokens, summed over each canvas, weighted, averaged over the samples of each row."""
    row = torch.arange(len(tokens), device=tokens.device).repeat(len(masked) // len(tokens))
    log_probs = token_log_probs(denoiser, tokens, observed, mask_id, row, masked, masked, chunk)
    weights = weight[:, None].expand(masked.shape)[masked]
    loss = torch.zeros(masked.shape, dtype=torch.float64, device=tokens.device)
    return loss.masked_scatter(masked, -weights * log_probs).sum(-1).view(-1, len(tokens)).mean(0)
