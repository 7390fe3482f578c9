"""The NELBO of a text under a denoiser, as evaluation estimates it."""

import torch
from torch import Tensor

from textdiff.denoisers.denoiser import Denoiser, token_log_probs
from textdiff.diffusion import mask_stratified_subsets


def nelbo_exact_k(
    denoiser: Denoiser,
    tokens: Tensor,
    observed: Tensor,
    mask_id: int,
    generator: torch.Generator,
    samples: int = 1,
    *,
    chunk: int = 2**14,
) -> Tensor:
    """Unbiased estimate of the NELBO, nats per row `[batch]`, by masking exactly k of n tokens (arXiv:2502.09992).

    Its mean bounds `-log p(tokens[~observed] | observed)` from above. n counts the unobserved tokens of the row, k is
    uniform on 1..n, and the loss is weighted by n / k (`textdiff.diffusion.mask_stratified_subsets`): no time is
    clamped, so that the value is a bound, and its variance is finite.

    Args:
        denoiser: the network.
        tokens: complete texts `[batch, length]`.
        observed: bool `[batch, length]`; these positions are never masked and not counted.
        mask_id: the mask token.
        generator: source of the masks.
        samples: masks per row; each k occurs equally often if this is a multiple of n.
        chunk: most canvas tokens per forward pass.
    """
    masked, weight = mask_stratified_subsets(~observed, samples, generator)
    row = torch.arange(len(tokens), device=tokens.device).repeat(samples)
    log_probs = token_log_probs(denoiser, tokens, observed, mask_id, row, masked, chunk=chunk)
    weights = weight[:, None].expand(masked.shape)[masked]
    loss = torch.zeros(masked.shape, dtype=torch.float64, device=tokens.device)
    return loss.masked_scatter(masked, -weights * log_probs).sum(-1).view(-1, len(tokens)).mean(0)
