"""Classifier-free guidance: a heuristic that makes fills follow the evidence more closely than the posterior does."""

from __future__ import annotations

from typing import Protocol, final

import torch
from torch import Tensor

from textdiff.denoisers.denoiser import Denoiser, passes
from textdiff.errors import UserError
from textdiff.text import Vocabulary


class Placed(Denoiser, Protocol):
    """A denoiser that lives on a device and may have a longest text."""

    @property
    def device(self) -> torch.device: ...

    @property
    def context(self) -> int | None: ...


@final
class Guided:
    """A denoiser whose log-probs are c + weight (c - u): c what it says, u what it says without the evidence.

    Each step takes two passes. **A heuristic**: its draws are from no posterior, not even with a perfect denoiser, for
    what is sharpened are the marginals of each step, and p(z) p(y | z)^(1 + weight) does not have these. The
    log-probability of a draw under this sampler is as exact as its policy says, and weights towards a target are valid.
    Source: as in LLaDA (arXiv:2502.09992, appendix A.2).

    Args:
        denoiser: asked with and without the evidence.
        vocabulary: bos, eos and padding stay where they are when the evidence is hidden.
        weight: 0 leaves the denoiser as it is.

    Raises:
        UserError: a weight below 0.
    """

    def __init__(self, denoiser: Placed, vocabulary: Vocabulary, weight: float) -> None:
        if not 0 <= weight < float("inf"):
            raise UserError(f"guidance is {weight}, expected a number, 0 or more")
        self.denoiser, self.weight, self._mask = denoiser, weight, vocabulary.mask
        ends = (vocabulary.pad, vocabulary.bos, vocabulary.eos)
        self._ends = torch.tensor([token for token in ends if token is not None], dtype=torch.long)

    def log_probs(self, canvas: Tensor, observed: Tensor, where: Tensor | None = None, null: bool = False) -> Tensor:
        """See `textdiff.denoisers.Denoiser`."""
        told = self.denoiser.log_probs(canvas, observed, where, null)
        hidden = observed & ~torch.isin(canvas, self._ends.to(canvas.device))
        untold = self.denoiser.log_probs(canvas.masked_fill(hidden, self._mask), observed & ~hidden, where, null)
        further = (told - untold).where(told > -torch.inf, 0.0)
        return (told + self.weight * further).log_softmax(dim=-1)

    def passes(self, null: bool) -> int:
        """See `textdiff.denoisers.Composed`."""
        return 2 * passes(self.denoiser, null)

    @property
    def device(self) -> torch.device:
        """Where the denoiser lives."""
        return self.denoiser.device

    @property
    def context(self) -> int | None:
        """The longest text that it reads."""
        return self.denoiser.context
