"""Likelihood per token and per character: sums are divided at the end, so that a text weighs as much as it is long."""

from __future__ import annotations

import math
from typing import Any, final

from torch import Tensor, tensor
from torchmetrics import Metric


@final
class NatsPerToken(Metric):
    """Negative log-likelihood (or a bound on it) in nats per token."""

    higher_is_better = False
    full_state_update = False
    nats: Tensor
    tokens: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("nats", tensor(0.0).double(), dist_reduce_fx="sum")
        self.add_state("tokens", tensor(0), dist_reduce_fx="sum")

    def update(self, nats: Tensor, tokens: Tensor | int) -> None:
        """Add negative log-likelihoods `nats` (any shape) of `tokens` tokens in all."""
        self.nats += nats.double().sum()
        self.tokens += tokens

    def compute(self) -> Tensor:
        """Nats per token."""
        return (self.nats / self.tokens).float()


@final
class BitsPerCharacter(Metric):
    """Negative log-likelihood (or a bound on it) in bits per character: comparable across tokenizers."""

    higher_is_better = False
    full_state_update = False
    nats: Tensor
    characters: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("nats", tensor(0.0).double(), dist_reduce_fx="sum")
        self.add_state("characters", tensor(0), dist_reduce_fx="sum")

    def update(self, nats: Tensor, characters: Tensor | int) -> None:
        """Add negative log-likelihoods `nats` (any shape) of text of `characters` characters in all."""
        self.nats += nats.double().sum()
        self.characters += characters

    def compute(self) -> Tensor:
        """Bits per character."""
        return (self.nats / self.characters / math.log(2)).float()
