"""Where a batch of fills stands between two steps, and what is known of the finished fills."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from textdiff.samplers.policies.policy import LogProbKind

Watch = Callable[[Tensor, Tensor], None]
"""Called after each step with the canvas `[batch, length]` and the slots that the step settled, bool likewise."""


@dataclass(frozen=True, eq=False)
class ConstraintWeights:
    """What drawing under a constraint automaton has changed so far.

    Attributes:
        log_excess: float64 `[batch]`, see `Trajectory`, of what has been drawn.
        log_ahead: float64 `[batch]`, log of the probability that the rest satisfies the constraint, as far as the last
            step knew; up to a constant.
    """

    log_excess: Tensor
    log_ahead: Tensor

    def select(self, rows: Tensor) -> ConstraintWeights:
        """Those of some rows, in that order."""
        return ConstraintWeights(self.log_excess[rows], self.log_ahead[rows])


@dataclass(eq=False)
class Progress:
    """Where the fills of a batch stand between two steps. The decoder that owns it updates it in each step.

    Attributes:
        tokens: `[batch, length]`, mask where still unknown, null in unused slots.
        masked: bool `[batch, length]`, slots that are still to be filled.
        length_log_q: float64 `[batch]`, log-probability of the lengths that were drawn.
        slot_log_q: float64 `[batch, length]`, log-probability with which each slot was filled, 0 elsewhere.
        nfe, steps: `[batch]`, see `Trajectory`, so far.
        constraint: None where nothing is constrained.
    """

    tokens: Tensor
    masked: Tensor
    length_log_q: Tensor
    slot_log_q: Tensor
    nfe: Tensor
    steps: Tensor
    constraint: ConstraintWeights | None = None

    @property
    def log_q(self) -> Tensor:
        """Log-probability of what has been drawn, float64 `[batch]`."""
        return self.length_log_q + self.slot_log_q.sum(dim=1)

    def select(self, rows: Tensor) -> Progress:
        """A copy of some rows, in that order."""
        return Progress(
            self.tokens[rows],
            self.masked[rows],
            self.length_log_q[rows],
            self.slot_log_q[rows],
            self.nfe[rows],
            self.steps[rows],
            None if self.constraint is None else self.constraint.select(rows),
        )


Steer = Callable[[Progress], Tensor | None]
"""Called between two steps: the rows `[batch]` whose copies the batch continues with, or None to leave it as it is."""


@dataclass(frozen=True, eq=False)
class GivenTokens:
    """Complete texts that some rows follow instead of drawing, such as the retained particle of particle Gibbs.

    Attributes:
        tokens: `[batch, length]`.
        rows: bool `[batch]`, the rows that follow theirs.
    """

    tokens: Tensor
    rows: Tensor

    @classmethod
    def everywhere(cls, tokens: Tensor) -> GivenTokens:
        """All rows follow their text."""
        return cls(tokens, torch.ones_like(tokens[:, 0], dtype=torch.bool))


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Filled canvases, and what their sampler knows of them.

    Attributes:
        tokens: complete texts `[batch, length]`, unused slots of a gap hold `null`.
        log_q: float64 `[batch]`, nats: log-probability of the fill under the sampler, in the sense of `kind`; None for
            kind `NONE`.
        kind: the policy's claim about `log_q`.
        nfe: `[batch]`, forward passes that each row took part in: one for each step, several if the denoiser is
            `Composed`, and those for the lengths of a row with a gap of unknown length.
        steps: `[batch]`, number of steps that revealed tokens.
        log_excess: float64 `[batch]`, nats: log-probability of the same trajectory under the sampler without the
            canvas's constraint, less `log_q`. As a log-weight it turns constrained draws into draws of the sampler's
            distribution given the constraint; -inf where nothing satisfied the constraint any more. None without a
            constraint or without a density.
    """

    tokens: Tensor
    log_q: Tensor | None
    kind: LogProbKind
    nfe: Tensor
    steps: Tensor
    log_excess: Tensor | None = None

    @classmethod
    def cat(cls, parts: Sequence[Trajectory]) -> Trajectory:
        """The rows of several batches of one sampler and one length as one batch."""
        log_q = [part.log_q for part in parts if part.log_q is not None]
        log_excess = [part.log_excess for part in parts if part.log_excess is not None]
        return cls(
            torch.cat([part.tokens for part in parts]),
            torch.cat(log_q) if log_q else None,
            parts[0].kind,
            torch.cat([part.nfe for part in parts]),
            torch.cat([part.steps for part in parts]),
            torch.cat(log_excess) if log_excess else None,
        )

    def rows(self, which: slice, length: int | None = None) -> Trajectory:
        """Some of the rows; of their tokens the first `length`, or all."""
        return Trajectory(
            self.tokens[which, :length],
            None if self.log_q is None else self.log_q[which],
            self.kind,
            self.nfe[which],
            self.steps[which],
            None if self.log_excess is None else self.log_excess[which],
        )
