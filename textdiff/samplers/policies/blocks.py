"""Long gaps in blocks from left to right: within a block any other policy chooses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, final

from torch import Tensor

from textdiff.errors import UserError
from textdiff.samplers.policies.ordered import Strided
from textdiff.samplers.policies.policy import LogProbKind, State, UnmaskingPolicy

WITHIN = Strided(16)
"""Fills a block, if nothing else is said."""


@final
@dataclass(frozen=True)
class Blocks(UnmaskingPolicy):
    """Every gap is cut into blocks of so many tokens, which are filled one after the other by a policy.

    The lengths of gaps have been drawn before: a block is a run of `length` tokens from the beginning of its gap, the
    last one may be shorter, and unused slots belong to none. All gaps of a row go at the same time, block by block. To
    the policy the current blocks are the gaps, and nothing else is; so gaps of up to `length` tokens are filled as
    without blocks. Which block is current is read off the canvas: what the policy says of its log q stays true.

    The network reads all of the gap, as it was trained to: later blocks are mask tokens to it.

    Args:
        policy: fills a block; its steps are those of each block.
        length: tokens in a block.

    Raises:
        UserError: the length is less than 1, or the policy is itself in blocks.
    """

    policy: UnmaskingPolicy = WITHIN
    length: int = 32
    kind: ClassVar[LogProbKind] = LogProbKind.EXACT

    def __post_init__(self) -> None:
        if self.length < 1:
            raise UserError(f"a block has {self.length} tokens, expected at least 1")
        if isinstance(self.policy, Blocks):
            raise UserError("blocks are cut into blocks: give the policy within a block, such as Strided(16)")
        object.__setattr__(self, "kind", self.policy.kind)
        object.__setattr__(self, "blind", self.policy.blind)

    def reveal(self, state: State) -> Tensor:
        return self.policy.reveal(self.current(state))

    def hide(self, state: State) -> Tensor:
        return self.policy.hide(self.current(state))

    def current(self, state: State) -> State:
        """The same step as the policy sees it: the leftmost block with a masked slot is all that there is of a gap."""
        block = state.rank // self.length
        now = block.masked_fill(~state.masked, int(block.max()) + 1).amin(dim=1, keepdim=True)
        inside = (state.gap >= 0) & (block == now)
        begun = state.when.masked_fill(inside, -1).amax(dim=1, keepdim=True) + 1
        within = inside[state.masked]
        return replace(
            state,
            masked=state.masked & inside,
            gap=state.gap.masked_fill(~inside, -1),
            rank=state.rank - block * self.length,
            size=(state.size - block * self.length).clamp(max=self.length),
            when=(state.when - begun).where(inside & state.filled, -1),
            log_probs=state.log_probs if self.policy.blind else state.log_probs[within],
        )
