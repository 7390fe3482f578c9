"""What the diffusion asks of a network, and the one way in which its bounds ask it."""

from __future__ import annotations

from copy import copy
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


class Denoiser(Protocol):
    """A map from a partly masked canvas to the laws of its clean tokens, one factor per position."""

    def log_probs(self, canvas: Tensor, observed: Tensor, where: Tensor | None = None, null: bool = False) -> Tensor:
        """Normalised log-probs of the clean token, in nats, with no mass on the mask.

        Args:
            canvas: Token ids `[batch, length]`, the mask id at unknown positions, null in slots known to be unused: the
                answer is that for the text without them.
            observed: Bool `[batch, length]`, true on evidence and on padding.
            where: Bool `[batch, length]`, the positions asked for; every position if None.
            null: Whether an unknown position may turn out unused. Only the slots of a gap whose length is still open
                may; anywhere else `null` is no possible token and carries no mass.

        Returns:
            `[batch, length, vocab]`, or with `where` only the rows asked for, row-major, `[where.sum(), vocab]`.
        """
        ...


@runtime_checkable
class CachesEvidence(Protocol):
    """A denoiser that can read evidence ahead of the gaps, because what it makes of it does not depend on them."""

    def encode_evidence(self, canvas: Tensor, observed: Tensor) -> Any:
        """What `log_probs` takes as `evidence`, with a method `select(rows)`; None if there is nothing to gain."""
        ...


@runtime_checkable
class Composed(Protocol):
    """A denoiser whose answer takes several forward passes."""

    def passes(self, null: bool) -> int:
        """How many `log_probs` takes for a row, called with that `null`."""
        ...


def passes(denoiser: Denoiser, null: bool = False) -> int:
    """Forward passes of a network that one answer takes: 1, unless the denoiser is `Composed`."""
    return denoiser.passes(null) if isinstance(denoiser, Composed) else 1


@final
class CachedDenoiser:
    """A denoiser before a batch of canvases whose evidence stands still: it is read once for all steps and rows.

    Args:
        denoiser: asked; an `CachesEvidence` saves its passes over the evidence, the answers are the same to rounding.
        canvas: ids `[batch, length]`; only the evidence matters, and which slots hold null.
        observed: bool `[batch, length]`.
    """

    def __init__(self, denoiser: Denoiser, canvas: Tensor, observed: Tensor) -> None:
        self._denoiser, self._observed = denoiser, observed
        self._evidence = denoiser.encode_evidence(canvas, observed) if isinstance(denoiser, CachesEvidence) else None

    def select(self, rows: Tensor) -> CachedDenoiser:
        """The same of some of the rows, in that order."""
        chosen = copy(self)
        chosen._observed = self._observed[rows]
        chosen._evidence = None if self._evidence is None else self._evidence.select(rows)
        return chosen

    def passes(self, null: bool = False) -> int:
        """Forward passes that an answer takes for a row."""
        return passes(self._denoiser, null)

    def log_probs(self, rows: Tensor, canvas: Tensor, where: Tensor, null: bool = False, alike: bool = False) -> Tensor:
        """See `Denoiser.log_probs`, of canvases `[len(rows), length]` whose evidence is that of these rows.

        `alike`: many of them may be the same, as before anything is drawn; each is then asked about once.
        """
        if alike and len(rows) > 1:
            questions, which = (2 * canvas + where).unique(dim=0, return_inverse=True)
            first = torch.full_like(questions[:, 0], len(rows)).scatter_reduce(
                0, which, torch.arange(len(rows), device=rows.device), "amin"
            )
            asked = where[first]
            answer = (asked.flatten().cumsum(0) - 1).view_as(asked)
            return self.log_probs(rows[first], canvas[first], asked, null)[answer[which][where]]
        known = {} if self._evidence is None else {"evidence": self._evidence.select(rows)}
        ask = self._denoiser.log_probs
        if torch.is_grad_enabled():  # keeps what goes in and what comes out; the rest is computed again, step by step
            return checkpoint(ask, canvas, self._observed[rows], where, null, use_reentrant=False, **known)
        return ask(canvas, self._observed[rows], where, null, **known)


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
    reading = CachedDenoiser(denoiser, tokens, observed)
    parts = [torch.zeros(0, dtype=torch.float64, device=tokens.device)]
    for start in range(0, len(row), size):
        r, hidden, asked = (x[start : start + size] for x in (row, masked, where))
        truth = tokens[r]
        log_probs = reading.log_probs(r, truth.masked_fill(hidden, mask_id), asked)
        parts.append(log_probs.gather(-1, truth[asked][:, None])[:, 0].double())
    return torch.cat(parts)
