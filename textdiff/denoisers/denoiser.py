"""The contract of denoisers, and how samplers and bounds call one: with the evidence encoded once."""

from __future__ import annotations

from copy import copy
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


class Denoiser(Protocol):
    """A map from a partly masked canvas to the distribution of the clean token at each position."""

    def log_probs(self, canvas: Tensor, observed: Tensor, where: Tensor | None = None, null: bool = False) -> Tensor:
        """Normalised log-probs of the clean token, in nats, with no mass on the mask.

        Args:
            canvas: Token ids `[batch, length]`, the mask id at unknown positions, null in slots known to be unused,
                which the answer treats as absent.
            observed: Bool `[batch, length]`, true on evidence and on padding.
            where: Bool `[batch, length]`, the positions asked for; every position if None.
            null: Whether unknown positions may turn out to be unused, as the slots of a gap of unknown length may.
                If not, `null` carries no mass.

        Returns:
            `[batch, length, vocab]`, or with `where` only the rows asked for, row-major, `[where.sum(), vocab]`.
        """
        ...


class DenoisingNetwork(Denoiser, Protocol):
    """A denoiser on a device, which may have a longest text: a `Transformer`, an exact world, or a wrapper of one."""

    @property
    def device(self) -> torch.device:
        """Where its tensors live."""
        ...

    @property
    def context(self) -> int | None:
        """The longest text that it takes, in tokens; None: any."""
        ...


@runtime_checkable
class CachesEvidence(Protocol):
    """A denoiser that can encode the evidence before the gaps are filled, because the code does not depend on them."""

    def encode_evidence(self, canvas: Tensor, observed: Tensor) -> Any:
        """What `log_probs` takes as `evidence`; None if there is nothing to gain.

        It has two methods: `select(rows)`, a copy for some rows in any order; and `view(rows)`, for different rows in
        their order, to which a network that also keeps what is revealed adds.
        """
        ...


@runtime_checkable
class OrderCausal(Protocol):
    """A denoiser that may answer in the order of revealing: then `log_probs` takes `times`, int `[batch, length]`.

    The answer at a position depends on what has an earlier time than it; evidence has time -1, and masked positions
    come after all others. So one call with complete texts answers for all steps of a trajectory.
    """

    @property
    def ordered(self) -> bool:
        """Whether it does."""
        ...


def is_ordered(denoiser: Denoiser) -> bool:
    """Whether a denoiser answers in the order of revealing, see `OrderCausal`."""
    return isinstance(denoiser, OrderCausal) and denoiser.ordered


@runtime_checkable
class Composed(Protocol):
    """A denoiser that takes several forward passes for one answer."""

    def passes(self, null: bool) -> int:
        """Forward passes that `log_probs` takes for a row when called with this `null`."""
        ...


def passes(denoiser: Denoiser, null: bool = False) -> int:
    """Forward passes that one answer of a denoiser takes: 1, unless it is `Composed`."""
    return denoiser.passes(null) if isinstance(denoiser, Composed) else 1


@final
class CachedDenoiser:
    """A denoiser for a batch of canvases whose evidence does not change: it is encoded once for all steps.

    An `OrderCausal` one also keeps what is revealed from step to step.

    Args:
        denoiser: one that `CachesEvidence` is spared further passes over it; answers are the same up to rounding.
        canvas: ids `[batch, length]`; only the evidence matters, and which slots hold null.
        observed: bool `[batch, length]`.
    """

    def __init__(self, denoiser: Denoiser, canvas: Tensor, observed: Tensor) -> None:
        self._denoiser, self._observed, self.ordered = denoiser, observed, is_ordered(denoiser)
        self._evidence = denoiser.encode_evidence(canvas, observed) if isinstance(denoiser, CachesEvidence) else None

    def select(self, rows: Tensor) -> CachedDenoiser:
        """The same for some of the rows, in that order."""
        chosen = copy(self)
        chosen._observed = self._observed[rows]
        chosen._evidence = None if self._evidence is None else self._evidence.select(rows)
        return chosen

    def passes(self, null: bool = False) -> int:
        """Forward passes that one answer takes for a row."""
        return passes(self._denoiser, null)

    def log_probs(
        self,
        rows: Tensor,
        canvas: Tensor,
        where: Tensor,
        null: bool = False,
        *,
        alike: bool = False,
        times: Tensor | None = None,
        keep: bool = False,
    ) -> Tensor:
        """See `Denoiser.log_probs`.

        Args:
            rows: `[rows]`, whose evidence the canvases have.
            canvas, where, null: as there, of these rows.
            alike: many canvases may be equal, as before anything is drawn; each is then evaluated once.
            times: see `OrderCausal`; other denoisers are not given them.
            keep: the rows differ and are in order, and no token of these canvases changes in later calls but by being
                masked: an order-causal denoiser keeps what it computes of the tokens revealed so far.
        """
        if alike and len(rows) > 1:
            queries, which = (2 * canvas + where).unique(dim=0, return_inverse=True)
            first = torch.full_like(queries[:, 0], len(rows)).scatter_reduce(
                0, which, torch.arange(len(rows), device=rows.device), "amin"
            )
            asked = where[first]
            answer = (asked.flatten().cumsum(0) - 1).view_as(asked)
            times = None if times is None else times[first]
            return self.log_probs(rows[first], canvas[first], asked, null, times=times)[answer[which][where]]
        known: dict[str, Any] = {} if times is None or not self.ordered else {"times": times}
        if self._evidence is not None:
            known["evidence"] = self._evidence.view(rows) if keep else self._evidence.select(rows)
        log_probs = self._denoiser.log_probs
        if torch.is_grad_enabled():  # only inputs and outputs are kept; the backward pass recomputes one step at a time
            return checkpoint(log_probs, canvas, self._observed[rows], where, null, use_reentrant=False, **known)
        return log_probs(canvas, self._observed[rows], where, null, **known)

    def trajectory_log_probs(self, rows: Tensor, tokens: Tensor, where: Tensor, times: Tensor) -> Tensor:
        """Log-probs of all steps of trajectories in one pass, of an `OrderCausal` denoiser: `[where.sum(), vocab]`.

        Args:
            rows: `[rows]`, whose evidence the texts have.
            tokens: complete texts `[rows, length]`.
            where: bool `[rows, length]`, the slots of the gaps.
            times: reveal times `[rows, length]`, -1 for evidence.
        """
        assert self.ordered
        known: dict[str, Any] = {"times": times}
        if self._evidence is not None:
            known["evidence"] = self._evidence.select(rows)
        return self._denoiser.log_probs(tokens, self._observed[rows], where, **known)


def token_log_probs(
    denoiser: Denoiser,
    tokens: Tensor,
    observed: Tensor,
    mask_id: int,
    row: Tensor,
    masked: Tensor,
    *,
    chunk: int = 2**14,
) -> Tensor:
    """Log-probs of the true tokens on many canvases, each of them a row of the batch with some positions masked.

    Args:
        denoiser: The network.
        tokens: Complete texts `[batch, length]`.
        observed: Bool `[batch, length]`.
        mask_id: The mask token.
        row: `[canvases]`, the row of the batch that each canvas is made from.
        masked: Bool `[canvases, length]`, the positions to mask, whose tokens are scored.
        chunk: Most canvas tokens per forward pass.

    Returns:
        Float64 `[masked.sum()]` in nats, row-major.
    """
    size = max(1, chunk // tokens.shape[1])
    cached = CachedDenoiser(denoiser, tokens, observed)
    parts = [torch.zeros(0, dtype=torch.float64, device=tokens.device)]
    for start in range(0, len(row), size):
        r, hidden = row[start : start + size], masked[start : start + size]
        truth = tokens[r]
        log_probs = cached.log_probs(r, truth.masked_fill(hidden, mask_id), hidden)
        parts.append(log_probs.gather(-1, truth[hidden][:, None])[:, 0].double())
    return torch.cat(parts)
