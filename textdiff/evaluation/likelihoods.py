"""Likelihood of held-out gaps under the ways to fill a gap that `textdiff bench` times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor

from textdiff.data import HeldOutGap
from textdiff.evaluation.statistics import Estimate
from textdiff.models import Transformer
from textdiff.posterior import seeded
from textdiff.priors import AutoregressivePrior
from textdiff.samplers import RandomOrder, Strided, UnmaskingPolicy, path_log_prob
from textdiff.text import Vocabulary

BASELINES = ("the AR baseline, this library", "the AR baseline, transformers.generate")


@final
@dataclass(frozen=True)
class GapLikelihood:
    """-log q of held-out gaps in nats per character, with standard errors over gaps.

    Attributes:
        nats: of one way.
        above: its paired difference to the first way.
    """

    nats: Estimate
    above: Estimate

    @classmethod
    def of(cls, found: Tensor, first: Tensor, characters: Tensor) -> GapLikelihood:
        """From the nats of each gap, those of the first way, and the gaps' characters: all `[gaps]` float64."""
        ratios = (Estimate.ratio(nats, characters, unbiased=False) for nats in (found, found - first))
        return cls(*ratios)

    def cells(self) -> list[str]:
        """The two estimates as cells of a table."""
        return [str(self.nats), self.above.signed()]

    def record(self) -> dict[str, float]:
        """The two estimates as JSON keeps them."""
        return {
            "nats": self.nats.value,
            "error": self.nats.error,
            "above": self.above.value,
            "above_error": self.above.error,
        }


def likelihoods(
    network: Transformer,
    baseline: Transformer | None,
    vocabulary: Vocabulary,
    items: Sequence[HeldOutGap],
    *,
    steps: Sequence[int] = (8,),
    reference_steps: Sequence[int] = (32,),
) -> dict[str, GapLikelihood]:
    """-log q of held-out gaps under each way of `end_to_end` that knows it, by name.

    Differences are to the strided order with the first of `steps`. The common loop is scored given its random order, by
    this library's `RandomOrder`.
    """
    policies: dict[str, UnmaskingPolicy] = {f"strided, {count} steps": Strided(count) for count in steps}
    policies |= {f"common loop, {count} steps": RandomOrder(count) for count in reference_steps}
    nats: dict[str, list[float]] = {}
    characters, device = [], network.device
    for number, (canvas, tokens) in enumerate(items):
        canvas, tokens = canvas.to(device), tokens.to(device)
        characters.append(float(vocabulary.characters.to(device)[tokens[canvas.slots]].sum()))
        for name, policy in policies.items():
            with torch.no_grad():
                scored = path_log_prob(network, canvas, vocabulary, policy, tokens, generator=seeded(number))
            assert scored.log_q is not None
            nats.setdefault(name, []).append(-float(scored.log_q))
        if baseline is not None:
            prior = AutoregressivePrior(baseline, cast(Any, None), vocabulary)  # no text is tokenised
            with torch.no_grad():
                log_q = prior.score(canvas, tokens).log_q
            assert log_q is not None
            for name in BASELINES:
                nats.setdefault(name, []).append(-float(log_q))
    values = {name: torch.tensor(some, dtype=torch.float64) for name, some in nats.items()}
    first, size = next(iter(values.values())), torch.tensor(characters, dtype=torch.float64)
    return {name: GapLikelihood.of(some, first, size) for name, some in values.items()}
