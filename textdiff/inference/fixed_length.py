"""A posterior restricted to one length of a gap, as evidence on shorter canvases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.evidence import Decode, Evidence, PositionedDFA
from textdiff.posterior import Posterior
from textdiff.text import Canvas


@final
@dataclass(frozen=True, eq=False)
class FixedLength(Evidence):
    """The evidence of a posterior on texts in which one gap has a given number of tokens, and no unused slot.

    Args:
        whole: a posterior in which the length of that gap is open.
        gap: its number.
        length: its tokens.
    """

    whole: Posterior
    gap: int
    length: int

    def canvas(self, tokenizer: PreTrainedTokenizerBase) -> Canvas | None:
        canvas = self.whole.canvas.to("cpu")
        tokens, observed, gap, word_start = (
            x[:, self.columns(canvas)] for x in (canvas.tokens, canvas.observed, canvas.gap, canvas.word_start)
        )
        minimum = canvas.minimum.clone()
        minimum[0, self.gap] = self.length
        return Canvas(tokens, observed, gap, minimum, word_start)

    @property
    def fixes(self) -> bool:
        return True

    @property
    def weighs(self) -> bool:
        return self.whole.evidence.weighs

    def dfas(self, canvas: Canvas, tokenizer: PreTrainedTokenizerBase) -> list[PositionedDFA]:
        return self.whole.evidence.dfas(canvas, tokenizer)

    def log_likelihood(self, tokens: Tensor, decode: Decode) -> Tensor:
        return self.whole.evidence.log_likelihood(self.laid(tokens), self.whole.decode)

    def log_potential(self, tokens: Tensor, masked: Tensor, decode: Decode) -> Tensor:
        still = self.laid(masked.long(), unused=0).bool()
        return self.whole.evidence.log_potential(self.laid(tokens), still, self.whole.decode)

    def columns(self, canvas: Canvas) -> Tensor:
        """The columns of the whole canvas that texts of this length have, `[kept]`."""
        inside = canvas.gap[0] == self.gap
        return (~inside | (inside.cumsum(0) <= self.length)).nonzero()[:, 0]

    def laid(self, rows: Tensor, unused: int | None = None) -> Tensor:
        """Rows of this length laid into the whole canvas; slots that they lack hold null, or padding, or `unused`."""
        v, canvas = self.whole.prior.vocabulary, self.whole.canvas.to(rows.device)
        fill = (v.null if v.null is not None else v.pad) if unused is None else unused
        assert fill is not None
        laid = torch.full_like(canvas.tokens, fill).repeat(len(rows), 1)
        laid[:, self.columns(canvas)] = rows
        return laid
