"""The loops that others fill gaps with, written from their formulas, to be measured against; nothing here is used.

They are held to the same draws as ours: float64, nothing forbidden is drawn. What they spend is as published: each pass
reads the whole text and answers at all of its positions, and noise is drawn for all of these answers.
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
class Naive:
    """A denoiser that forgets: it reads the whole text in each pass and answers at all positions, asked or not.

    In the loop of this library it gives the same fills, so that the difference in time is what asking well is worth.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser

    def log_probs(self, canvas: Tensor, observed: Tensor, where: Tensor | None = None, null: bool = False) -> Tensor:
        """See `textdiff.denoisers.Denoiser`."""
        answers = self._denoiser.log_probs(canvas, observed, null=null)
        return answers if where is None else answers[where]


def logits_of(network: Transformer, observed: Tensor) -> Logits:
    """All logits of a network on canvases with evidence at `observed [batch, length]`, -inf on what is no content."""
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
    """The loop of LLaDA (arXiv:2502.09992, algorithms 4 and 5) and of what grew from it.

    A step draws a candidate for every position by Gumbel's trick in float64, takes the softmax of all logits once more
    for its confidence, and keeps the candidates of the highest confidence in each row; "random" replaces confidence by
    uniform numbers, which at one token per step draws from the posterior that the network implies.

    Args:
        logits: the network.
        canvas: ids `[batch, length]`, `mask` where unknown; as many in each row.
        mask: id of the mask.
        steps: the masked tokens are spread evenly over them, the first steps taking what is left over.
        generator: source of randomness, on the device of the canvas.
        temperature: of the draw; 0 takes the likeliest token.
        order: whose candidates are kept.

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
        candidates = raced.argmax(dim=-1)
        if order == "random":
            confidence = torch.rand(x.shape, generator=generator, device=x.device)
        else:
            confidence = scores.softmax(dim=-1).gather(-1, candidates[..., None])[..., 0]
        confidence = confidence.masked_fill(~masked, -torch.inf)
        for row in range(len(x)):
            kept = confidence[row].topk(count).indices
            x[row, kept] = candidates[row, kept]
    return x, passes


@torch.no_grad()
def reuse_loop(logits: Logits, canvas: Tensor, mask: int, steps: int, generator: Generator) -> tuple[Tensor, int]:
    """The ancestral sampler of MDLM (arXiv:2406.07524, eq. 7) that reuses the network's answers while nothing changes.

    Time goes from 1 to 0 in even steps and a token is masked at time t with probability t. From t to s a masked token
    stays so with probability s / t, else it is drawn; a step in which no token of the batch was drawn needs no new
    forward pass, for the network does not look at the time.

    Args:
        logits, canvas, mask, steps, generator: see `common_loop`.

    Returns:
        Complete texts `[batch, length]`, and the forward passes that each row took.
    """
    x, law, passes = canvas.clone(), None, 0
    for step in range(steps, 0, -1):
        t, s = step / steps, (step - 1) / steps
        if law is None:
            law, passes = logits(x).softmax(dim=-1), passes + 1
        moved = law * (t - s)
        moved[..., mask] = s
        drawn = _race(moved.double(), 1.0, generator).argmax(dim=-1)
        after = torch.where(x == mask, drawn, x)
        if not torch.equal(after, x):
            law = None
        x = after
        if not (x == mask).any():
            break
    return x, passes


def _race(weights: Tensor, temperature: float, generator: Generator) -> Tensor:
    """What is largest where a draw from the law of `weights ** (1 / temperature)` falls: Gumbel's trick, float64."""
    noise = torch.rand(weights.shape, generator=generator, dtype=torch.float64, device=weights.device)
    return weights / noise.log_().neg_().pow_(temperature)
