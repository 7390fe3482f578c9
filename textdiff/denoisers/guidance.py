"""Classifier-free guidance: a heuristic by which fills follow the evidence more closely than posterior samples do."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from textdiff.denoisers.denoiser import DenoisingNetwork, is_ordered, passes
from textdiff.files.fields import NOT_NEGATIVE
from textdiff.text import Vocabulary


@final
class Guided:
    """A denoiser with log-probs c + weight (c - u), normalised: c conditional on the evidence, u unconditional.

    Each answer takes two passes. **A heuristic**: its draws are posterior samples of no model, even with a perfect
    denoiser, for it sharpens the marginals of each step, which are not those of p(z) p(y | z)^(1 + weight). The
    log-probability of a draw under this sampler is still of the kind that the policy claims, and weights towards a
    target are valid. Source: LLaDA (arXiv:2502.09992, appendix A.2).

    Args:
        denoiser: evaluated with and without the evidence.
        vocabulary: bos, eos and padding stay visible when the evidence is masked.
        weight: 0 leaves the denoiser unchanged.

    Raises:
        UserError: a weight below 0.
    """

    def __init__(self, denoiser: DenoisingNetwork, vocabulary: Vocabulary, weight: float) -> None:
        NOT_NEGATIVE.check("guidance", weight)
        self.denoiser, self.weight, self._mask = denoiser, weight, vocabulary.mask
        ends = (vocabulary.pad, vocabulary.bos, vocabulary.eos)
        self._ends = torch.tensor([token for token in ends if token is not None], dtype=torch.long)

    def log_probs(
        self,
        canvas: Tensor,
        observed: Tensor,
        where: Tensor | None = None,
        null: bool = False,
        times: Tensor | None = None,
    ) -> Tensor:
        """See `textdiff.denoisers.Denoiser` and `OrderCausal`."""
        known = {} if times is None else {"times": times}
        conditional = self.denoiser.log_probs(canvas, observed, where, null, **known)
        hidden = observed & ~torch.isin(canvas, self._ends.to(canvas.device))
        without_evidence = canvas.masked_fill(hidden, self._mask), observed & ~hidden
        unconditional = self.denoiser.log_probs(*without_evidence, where, null, **known)
        difference = (conditional - unconditional).where(conditional > -torch.inf, 0.0)
        return (conditional + self.weight * difference).log_softmax(dim=-1)

    def passes(self, null: bool) -> int:
        """See `textdiff.denoisers.Composed`."""
        return 2 * passes(self.denoiser, null)

    @property
    def ordered(self) -> bool:
        """See `textdiff.denoisers.OrderCausal`."""
        return is_ordered(self.denoiser)

    @property
    def device(self) -> torch.device:
        """Where the denoiser lives."""
        return self.denoiser.device

    @property
    def context(self) -> int | None:
        """The longest text that the denoiser takes."""
        return self.denoiser.context
