"""How likely held-out text is under each way to fill a gap, beside how long they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from textdiff.models import Transformer
from textdiff.posterior import seeded
from textdiff.priors import AutoregressivePrior
from textdiff.samplers import RandomOrder, Strided, UnmaskingPolicy, path_log_prob
from textdiff.text import Canvas, Vocabulary


@dataclass(frozen=True)
class Likelihood:
    """-log q of held-out gaps in nats per character, each with its standard error over gaps.

    Attributes:
        nats, error: of a way.
        above, above_error: paired, above the first way.
    """

    nats: float
    error: float
    above: float
    above_error: float

    @classmethod
    def of(cls, found: Tensor, first: Tensor, characters: Tensor) -> Likelihood:
        """From the nats of each gap, those of the first way, and the gaps' characters: all `[gaps]` float64."""

        def ratio(nats: Tensor) -> tuple[float, float]:
            mean = float(nats.sum() / characters.sum())
            rest = nats - mean * characters
            return mean, float(rest.square().sum().sqrt() / characters.sum())

        return cls(*ratio(found), *ratio(found - first))


def likelihoods(
    network: Transformer,
    twin: Transformer | None,
    vocabulary: Vocabulary,
    items: Sequence[tuple[Canvas, Tensor]],
    *,
    steps: Sequence[int] = (8,),
    reference_steps: Sequence[int] = (32,),
) -> dict[str, Likelihood]:
    """-log q of held-out gaps, of the ways of `end_to_end` that know it, by name; the first of `steps` is the first.

    That of the common loop is given its random order, as this library scores it (`RandomOrder`).
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
        if twin is not None:
            prior = AutoregressivePrior(twin, cast(Any, None), vocabulary)
            with torch.no_grad():
                log_q = prior.score(canvas, tokens).log_q
            assert log_q is not None
            for name in ("the twin, this library", "the twin, transformers.generate"):
                nats.setdefault(name, []).append(-float(log_q))
    values = {name: torch.tensor(some, dtype=torch.float64) for name, some in nats.items()}
    first, size = next(iter(values.values())), torch.tensor(characters, dtype=torch.float64)
    return {name: Likelihood.of(some, first, size) for name, some in values.items()}
