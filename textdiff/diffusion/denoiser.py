"""What the diffusion asks of a network, and the one way in which its bounds ask it."""

from typing import Protocol

import torch
from torch import Tensor


class Denoiser(Protocol):
    """A map from a partly masked canvas to the laws of its clean tokens, one factor per position."""

    def log_probs(self, canvas: Tensor, observed: Tensor, where: Tensor | None = None, null: bool = False) -> Tensor:
        """Normalised log-probs of the clean token, in nats, with no mass on the mask.

        Args:
            canvas: Token ids `[batch, length]`, the mask id at unknown positions.
            observed: Bool `[batch, length]`, true on evidence and on padding.
            where: Bool `[batch, length]`, the positions asked for; every position if None.
            null: Whether an unknown position may turn out unused. Only the slots of a gap whose length is still open
                may; anywhere else `null` is no possible token and carries no mass.

        Returns:
            `[batch, length, vocab]`, or with `where` only the rows asked for, row-major, `[where.sum(), vocab]`.
        """
        ...


def token_log_probs(
    denoiser: Denoiser,
    tokens: Tensor,
    observed: Tensor,
    mask_id: int,
    row: Tensor,
    masked: Tensor,
    where: Tensor,
    chunk: int = 2**14,
) -> Tensor:
    """Log-probs of true tokens on many canvases, each a row of the batch with some positions masked.

    Args:
        denoiser: The network.
        tokens: Complete texts `[batch, length]`.
        observed: Bool `[batch, length]`.
        mask_id: The mask token.
        row: `[canvases]`, the row of the batch that each canvas is made from.
        masked: Bool `[canvases, length]`, the positions that the canvas hides.
        where: Bool `[canvases, length]`, the hidden positions whose tokens are scored.
        chunk: Most canvas tokens per forward pass.

    Returns:
        Float64 `[where.sum()]` in nats, row-major.
    """
    size = max(1, chunk // tokens.shape[1])
    parts = [torch.zeros(0, dtype=torch.float64, device=tokens.device)]
    for start in range(0, len(row), size):
        r, hidden, asked = (x[start : start + size] for x in (row, masked, where))
        truth = tokens[r]
        log_probs = denoiser.log_probs(truth.masked_fill(hidden, mask_id), observed[r], asked)
        parts.append(log_probs.gather(-1, truth[asked][:, None])[:, 0].double())
    return torch.cat(parts)
