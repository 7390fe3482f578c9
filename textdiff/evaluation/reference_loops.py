"""Reference loops: other people's denoising samplers, implemented from their formulas, for comparisons only.

Like this library's loop they draw in float64, and nothing that is forbidden. Their cost is as published: each forward
pass takes the whole text and computes logits at all positions, and noise is drawn for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, final

import torch
from torch import Generator, Tensor

from textdiff.denoisers import Denoiser
from textdiff.models import Transformer, denoising_visibility

Logits = Callable[[Tensor], Tensor]
"""Canvas `[batch, length]` -> logits `[batch, length, vocab]` of the clean tokens, any normalisation."""


@final
class UncachedDenoiser:
    """A denoiser without a cache: each pass takes the whole text and computes log-probabilities at all positions.

    In this library's loop it gives the same fills, so the difference in time is what the cache and the selection of
    positions save.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser

    def log_probs(self, canvas: Tensor, observed: Tensor, where: Tensor | None = None, null: bool = False) -> Tensor:
        """See `textdiff.denoisers.Denoiser`."""
        log_probs = self._denoiser.log_probs(canvas, observed, null=null)
        return log_probs if where is None else log_probs[where]


def logits_of(network: Transformer, observed: Tensor) -> Logits:
    """The logits of a network on canvases with evidence at `observed [batch, length]`, -inf on tokens never drawn."""
    if network.ordered:
        return lambda canvas: network.log_probs(canvas, observed)
    never = network.forbidden_mask(observed.device, null=False)
    pad = network.config.pad_token_id

    def logits(canvas: Tensor) -> Tensor:
        segments = torch.ones_like(canvas) if pad is None else (canvas != pad).long()
        visible = denoising_visibility(segments, observed, network.config.attention)
        return network.logits(canvas, visible).masked_fill_(never, -torch.inf)

    return logits


@torch.no_grad()
def common_loop(
    logits: Logits,
    canvas: Tensor,
    mask: int,
    steps: int,
    generator: Generator,
    *,
    temperature: float = 1.0,
    order: Literal["random", "low-confidence"] = "random",
) -> tuple[Tensor, int]:
    """The loop of LLaDA (arXiv:2502.09992, algorithms 4 and 5) and its successors.

    A step draws a token for every position by the Gumbel-max trick in float64, computes its confidence by another
    softmax of all logits, and keeps the tokens of the highest confidence in each row. With "random" order, uniform
    numbers replace the confidence; at one token per step that samples the posterior that the network implies.

    Args:
        logits: the network.
        canvas: ids `[batch, length]`, `mask` where unknown; the same number of masks in each row.
        mask: id of the mask.
        steps: the masked tokens are spread evenly over them, the first steps taking the remainder.
        generator: source of randomness, on the device of the canvas.
        temperature: of the draw; 0 takes the likeliest token.
        order: by which criterion drawn tokens are kept.

    Returns:
        Complete texts `[batch, length]`, and the forward passes that each row took.
    """
    x = canvas.clone()
    each, over = divmod(int((x[0] == mask).sum()), steps)
    passes = 0
    for step in range(steps):
        count = each + (step < over)
        if not count:
            break
        masked, scores = x == mask, logits(x)
        passes += 1
        raced = scores if temperature == 0 else _race(scores.double().exp(), temperature, generator)
        drawn = raced.argmax(dim=-1)
        if order == "random":
            confidence = torch.rand(x.shape, generator=generator, device=x.device)
        else:
            confidence = scores.softmax(dim=-1).gather(-1, drawn[..., None])[..., 0]
        confidence = confidence.masked_fill(~masked, -torch.inf)
        for row in range(len(x)):
            kept = confidence[row].topk(count).indices
            x[row, kept] = drawn[row, kept]
    return x, passes


@torch.no_grad()
def reuse_loop(logits: Logits, canvas: Tensor, mask: int, steps: int, generator: Generator) -> tuple[Tensor, int]:
    """The ancestral sampler of MDLM (arXiv:2406.07524, eq. 7), which reuses probabilities while nothing changes.

    Time runs from 1 to 0 in even steps, and a token is masked at time t with probability t. From t to s a masked token
    stays masked with probability s / t, otherwise it is drawn. After a step in which no token of the batch was drawn no
    new forward pass is needed, because the network does not depend on time.

    Args:
        logits, canvas, mask, steps, generator: see `common_loop`.

    Returns:
        Complete texts `[batch, length]`, and the forward passes that each row took.
    """
    x, probs, passes = canvas.clone(), None, 0
    for step in range(steps, 0, -1):
        t, s = step / steps, (step - 1) / steps
        if probs is None:
            probs, passes = logits(x).softmax(dim=-1), passes + 1
        moved = probs * (t - s)
        moved[..., mask] = s
        drawn = _race(moved.double(), 1.0, generator).argmax(dim=-1)
        after = torch.where(x == mask, drawn, x)
        if not torch.equal(after, x):
            probs = None
        x = after
        if not (x == mask).any():
            break
    return x, passes


def _race(weights: Tensor, temperature: float, generator: Generator) -> Tensor:
    """Scores whose argmax is a draw with probabilities proportional to `weights ** (1 / temperature)` (Gumbel-max)."""
    noise = torch.rand(weights.shape, generator=generator, dtype=torch.float64, device=weights.device)
    return weights / noise.log_().neg_().pow_(temperature)
