"""Remasking diffusion: filled slots are masked again at random and drawn anew (ReMDM, arXiv:2503.00307)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from textdiff.errors import UserError
from textdiff.files.fields import PROBABILITY, Field, check_fields, instance, whole
from textdiff.samplers.policies.policy import LogProbKind, Paced, State

MOST_STEPS = 4096
"""Each is a forward pass, also where nothing is left to fill."""


class Chance(ABC):
    """The probability sigma with which a filled slot is masked again in a step."""

    @abstractmethod
    def sigma(self, state: State, most: Tensor) -> Tensor:
        """Probabilities that broadcast to `[batch, length]`; only those at filled slots count.

        Args:
            state: of the batch.
            most: `[batch, 1]`, the largest sigma for which the share of masked slots follows its schedule,
                min(1, (1 - alpha_s) / alpha_t) from time t to s.
        """


@final
@dataclass(frozen=True)
class Cap(Chance):
    """sigma = min(eta, most)."""

    eta: float = 0.1

    def __post_init__(self) -> None:
        PROBABILITY.check("eta", self.eta)

    def sigma(self, state: State, most: Tensor) -> Tensor:
        return most.clamp(max=self.eta)


@final
@dataclass(frozen=True)
class Rescale(Chance):
    """sigma = eta x most."""

    eta: float = 0.1

    def __post_init__(self) -> None:
        PROBABILITY.check("eta", self.eta)

    def sigma(self, state: State, most: Tensor) -> Tensor:
        return self.eta * most


@final
@dataclass(frozen=True)
class ByConfidence(Chance):
    """The largest sigma, distributed over the filled slots by a softmax of -p, where p is the probability of each draw.

    It depends on the drawn tokens: unlike with the others, draws are no posterior samples in any number of steps.
    """

    def sigma(self, state: State, most: Tensor) -> Tensor:
        assert state.confidence is not None
        scores = (-state.confidence.exp()).masked_fill(~state.filled, -torch.inf)
        return most * scores.softmax(dim=1).nan_to_num(nan=0.0)


@final
@dataclass(frozen=True)
class Loop:
    """A schedule in three phases: fill a share of the slots, redraw with that share filled, fill the rest.

    Args:
        level: share of the slots that is filled during the second phase.
        begin, end: of the second phase, as shares of the steps. Slots are masked again in that phase only.

    Raises:
        UserError: a number out of range.
    """

    level: float = 0.9
    begin: float = 0.45
    end: float = 0.95

    def __post_init__(self) -> None:
        check_fields(vars(self), dict.fromkeys(("level", "begin", "end"), PROBABILITY))
        if not (0 < self.level < 1 and 0 < self.begin < self.end < 1):
            raise UserError(f"a loop is {self}, expected 0 < level < 1 and 0 < begin < end < 1")

    def filled(self, done: Tensor) -> Tensor:
        """Share of the slots that is filled after a share of the steps."""
        before, after = done / self.begin * self.level, 1 - (1 - done) / (1 - self.end) * (1 - self.level)
        return torch.where(done < self.begin, before, after.clamp(min=self.level))


@final
@dataclass(frozen=True)
class Remasking(Paced):
    """Random slots on a linear schedule; filled slots are masked again at random, and as many more are revealed.

    A step masks each filled slot with probability sigma: ReMDM with the numbers of tokens at their means instead of
    binomial. With more steps than tokens, the extra steps correct earlier draws: a step that would reveal nothing masks
    one slot again. A row of two tokens or more takes exactly `steps`.

    Which slots are masked again does not depend on the tokens (except for `ByConfidence`). So with a perfect denoiser a
    step that reveals one token leaves the posterior invariant, in any number of steps; one that reveals more draws from
    a product of marginals, and the error shrinks with sigma and 1 / `steps`. The density of its draws is unknown: kind
    `NONE`.

    Args:
        steps: their number, at most 4,096: it takes them all.
        chance: probability of a filled slot to be masked again.
        loop: in which steps that happens; None: in all.
    """

    fields: ClassVar[Mapping[str, Field]] = {
        "steps": whole(1, MOST_STEPS),
        "chance": instance(Chance, "a Chance, such as Cap(0.1)"),
        "loop": instance(Loop, "a Loop").optional(),
    }
    steps: int = 32
    chance: Chance = Rescale()
    loop: Loop | None = None
    kind = LogProbKind.NONE
    blind = True

    def reveal(self, state: State) -> Tensor:
        more = self._wanted(state, state.step + 1) - state.filled.sum(dim=1)
        return state.first(state.noise, more + self.hide(state).sum(dim=1))

    def hide(self, state: State) -> Tensor:
        filled, total = state.filled.sum(dim=1), (state.gap >= 0).sum(dim=1)
        wanted = self._wanted(state, state.step + 1)
        most = ((total - wanted) / filled.clamp(min=1)).clamp(max=1)[:, None].double()
        sigma = self.chance.sigma(state, most)
        if self.loop is not None:
            done = state.step.double() / self.steps
            sigma = sigma * ((done >= self.loop.begin) & (done < self.loop.end))[:, None]
        key = state.noise / sigma.clamp(min=1e-300)  # below 1 with probability sigma
        count = (state.filled & (key < 1)).sum(dim=1)
        count = torch.minimum(count.clamp(min=1).where(wanted == filled, count), total - wanted)
        return state.first_filled(key, count)

    def _wanted(self, state: State, step: Tensor) -> Tensor:
        """Number of tokens that each row holds after `step` steps, `[batch]`; all of them only after the last."""
        total = (state.gap >= 0).sum(dim=1)
        done = step.double() / self.steps
        share = done if self.loop is None else self.loop.filled(done)
        part = torch.minimum((total * share + 1e-9).long().clamp(min=1), (total - 1).clamp(min=1))
        return part.where(step < self.steps, total)
