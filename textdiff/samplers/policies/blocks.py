"""Blocks: a long gap is filled block by block from left to right, each block by another policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

from torch import Tensor

from textdiff.errors import UserError
from textdiff.files.fields import Field, instance, whole
from textdiff.samplers.policies.ordered import Strided
from textdiff.samplers.policies.policy import LogProbKind, State, UnmaskingPolicy

WITHIN = Strided(16)
"""The default policy within a block."""


@final
@dataclass(frozen=True)
class Blocks(UnmaskingPolicy):
    """Cuts every gap into blocks of `length` tokens, which another policy fills one after the other.

    Lengths are drawn first: blocks are counted from the beginning of their gap, the last one may be shorter, and unused
    slots belong to none. All gaps of a row are filled at the same time, block by block. The inner policy sees the
    current blocks as the only gaps, so gaps of up to `length` tokens are filled as without blocks. The current block is
    a function of the canvas, so the inner policy's claim about log q holds.

    The network sees the whole gap, as in training: later blocks are mask tokens to it.

    Args:
        policy: fills a block; its steps are per block.
        length: tokens in a block.

    Raises:
        UserError: the length is less than 1, or the policy is itself in blocks.
    """

    fields: ClassVar[Mapping[str, Field]] = {
        "policy": instance(UnmaskingPolicy, "the policy within a block, such as Strided(16)"),
        "length": whole(1),
    }
    policy: UnmaskingPolicy = WITHIN
    length: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.policy, Blocks):
            raise UserError("blocks are cut into blocks: give the policy within a block, such as Strided(16)")

    @property
    def kind(self) -> LogProbKind:
        """That of the policy within."""
        return self.policy.kind

    @property
    def blind(self) -> bool:
        """Whether the policy within is."""
        return self.policy.blind

    def reveal(self, state: State) -> Tensor:
        return self.policy.reveal(self.current(state))

    def hide(self, state: State) -> Tensor:
        return self.policy.hide(self.current(state))

    def current(self, state: State) -> State:
        """The same step as the inner policy sees it: of each gap, only the leftmost block with a masked slot."""
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
