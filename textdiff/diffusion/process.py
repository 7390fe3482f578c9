"""The masking process: forward corruption, its reverse posterior, low-variance times and random orders."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from textdiff.diffusion.schedules import NoiseSchedule


def uniforms(*shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Float64 uniforms on [0, 1), drawn where the generator lives: the same numbers for every device."""
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device).to(device)


def low_discrepancy_times(
    batch: int, generator: torch.Generator, samples: int = 1, device: torch.device | None = None
) -> Tensor:
    """Stratified times in (0, 1], float64 `[samples * batch]`, sample by sample (after arXiv:2107.00630).

    Each of the `samples * batch` equal strata holds one time, and so does each of the `samples` strata of every row. A
    row's stratum is drawn at random: an estimate is unbiased row by row, and its batch mean varies little.
    """
    device = device or generator.device
    order = uniforms(samples, batch, generator=generator, device=device).argsort(-1)
    stratum = order + batch * torch.arange(samples, device=device)[:, None]
    jitter = 1 - uniforms(samples, batch, generator=generator, device=device)
    return ((stratum + jitter) / (samples * batch)).flatten()


def random_order(maskable: Tensor, generator: torch.Generator) -> Tensor:
    """Rank `[batch, length]` of each maskable position in a uniformly random order of its row; the others come last."""
    noise = uniforms(*maskable.shape, generator=generator, device=maskable.device)
    return noise.masked_fill(~maskable, torch.inf).argsort(-1).argsort(-1)


def mask_exactly(maskable: Tensor, k: Tensor, generator: torch.Generator) -> Tensor:
    """A uniformly random subset of `k [batch]` of the maskable positions, bool `[batch, length]`."""
    return maskable & (random_order(maskable, generator) < k[:, None])


@dataclass(frozen=True)
class MaskedDiffusion:
    """Tokens turn into the mask independently, each visible at time t with probability `schedule.alpha(t)`.

    Source: arXiv:2406.07524.
    """

    schedule: NoiseSchedule
    mask_id: int

    def corrupt(self, tokens: Tensor, t: Tensor, maskable: Tensor, generator: torch.Generator) -> Tensor:
        """Draw canvases `[batch, length]` at times `t [batch]`; only `maskable [batch, length]` positions change."""
        noise = uniforms(*tokens.shape, generator=generator, device=tokens.device)
        return tokens.masked_fill(maskable & (noise < 1 - self.schedule.alpha(t)[:, None]), self.mask_id)

    def unmask_probability(self, t: Tensor, s: Tensor) -> Tensor:
        """Probability that a token masked at time t is visible at the earlier time s < t."""
        alpha_t, alpha_s = self.schedule.alpha(t), self.schedule.alpha(s)
        return (alpha_s - alpha_t) / (1 - alpha_t)

    def loss_weight(self, t: Tensor) -> Tensor:
        """Rate at which a masked token is revealed, `-alpha'(t) / (1 - alpha(t))`: the NELBO's weight at time t."""
        return -self.schedule.alpha_prime(t) / (1 - self.schedule.alpha(t))

    def reverse_posterior(self, canvas: Tensor, log_probs: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Law of each token at time s < t given the canvas at time t, `[batch, length, vocab]`, mask included.

        A masked position stays masked with probability `1 - unmask_probability(t, s)`, else it takes a token from
        `log_probs [batch, length, vocab]`; visible tokens stay. Times are `[batch]`.
        """
        reveal = self.unmask_probability(t, s)[:, None, None]
        keep = F.one_hot(canvas, log_probs.shape[-1])
        masked = (canvas == self.mask_id)[..., None]
        return torch.where(masked, reveal * log_probs.exp() + (1 - reveal) * keep, keep.to(reveal))
