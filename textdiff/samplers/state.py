"""The state of a batch that is being denoised: every tensor that belongs to a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from textdiff.denoisers import CachedDenoiser
from textdiff.samplers.lengths import rank_and_size
from textdiff.samplers.open_gaps import ClosedGaps
from textdiff.samplers.policies.policy import State
from textdiff.samplers.trajectory import ConstraintWeights, Progress


@dataclass(eq=False)
class DenoisingState:
    """Everything that moves along when rows are replaced by copies of others.

    Attributes:
        progress: tokens, log-probabilities and counts.
        gap, rank, size, when: `[batch, length]`, as policies see them, see `State`.
        confidence: float64 `[batch, length]`, see `State`; None for policies with a log-probability.
        denoiser: with what it has computed of each row's evidence. A network that also keeps what has been revealed
            extends its cache here after each step.
    """

    progress: Progress
    gap: Tensor
    rank: Tensor
    size: Tensor
    when: Tensor
    confidence: Tensor | None
    denoiser: CachedDenoiser

    @classmethod
    def begin(
        cls, gaps: ClosedGaps, denoiser: CachedDenoiser, *, has_density: bool, constrained: bool
    ) -> DenoisingState:
        """The state before the first step.

        Args:
            gaps: the canvas, once its gaps have their lengths.
            denoiser: of that canvas.
            has_density: whether the policy's draws have a log-probability; if not, confidences are kept.
            constrained: whether the canvas has a constraint automaton.
        """
        slot_log_q = torch.zeros(gaps.tokens.shape, dtype=torch.float64, device=gaps.tokens.device)
        progress = Progress(
            gaps.tokens,
            gaps.gap >= 0,
            gaps.log_q,
            slot_log_q,
            gaps.nfe,
            torch.zeros_like(gaps.nfe),
            ConstraintWeights(gaps.log_excess, -gaps.log_excess) if constrained else None,
        )
        confidence = None if has_density else torch.zeros_like(slot_log_q)
        return cls(progress, gaps.gap, *rank_and_size(gaps.gap), torch.full_like(gaps.gap, -1), confidence, denoiser)

    def select(self, rows: Tensor) -> DenoisingState:
        """A copy of some rows, in that order."""
        return DenoisingState(
            self.progress.select(rows),
            self.gap[rows],
            self.rank[rows],
            self.size[rows],
            self.when[rows],
            None if self.confidence is None else self.confidence[rows],
            self.denoiser.select(rows),
        )

    def view(self, rows: Tensor, noise: Tensor, vocab: int) -> State:
        """What a policy sees of some rows before the denoiser is asked; `noise [rows, length]` may order the slots."""
        progress = self.progress
        return State(
            canvas=progress.tokens[rows],
            masked=progress.masked[rows],
            gap=self.gap[rows],
            rank=self.rank[rows],
            size=self.size[rows],
            log_probs=progress.slot_log_q.new_empty(0, vocab),
            noise=noise,
            when=self.when[rows],
            confidence=None if self.confidence is None else self.confidence[rows],
        )

    def reveal(self, rows: Tensor, revealed: Tensor, values: Tensor, scores: Tensor) -> None:
        """Fill slots of some rows.

        Args:
            rows: `[rows]`.
            revealed: bool `[rows, length]`.
            values, scores: the tokens and their log-probabilities, `[revealed.sum()]`.
        """
        progress = self.progress
        by_slot = progress.slot_log_q.new_zeros(revealed.shape).masked_scatter(revealed, scores)
        progress.slot_log_q = progress.slot_log_q.index_add(0, rows, by_slot)
        progress.tokens[rows] = progress.tokens[rows].masked_scatter(revealed, values)
        progress.masked[rows] = progress.masked[rows] & ~revealed
        self.when[rows] = torch.where(revealed, progress.steps[rows, None], self.when[rows])

    def hide(self, rows: Tensor, hidden: Tensor, mask: int) -> None:
        """Mask filled slots of some rows again, bool `[rows, length]`."""
        progress = self.progress
        progress.tokens[rows] = progress.tokens[rows].masked_fill(hidden, mask)
        progress.masked[rows] |= hidden
        self.when[rows] = self.when[rows].masked_fill(hidden, -1)
