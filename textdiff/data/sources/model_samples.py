"""Texts that an autoregressive prior generates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from torch import nn

from textdiff.data.sources.counts import check_count
from textdiff.data.sources.source import Source
from textdiff.errors import UserError
from textdiff.models.fingerprint import fingerprint
from textdiff.posterior import Simulates, seeded
from textdiff.pretrained import load
from textdiff.text import decode

AT_ONCE = 64
"""Texts in a batch; another number would draw other texts."""


@final
@dataclass(frozen=True)
class ModelSamples(Source):
    """Whole texts drawn from an autoregressive checkpoint; in short `prior:checkpoint:count[:seed]`.

    Texts that do not end within the model's context are left out.

    Args:
        checkpoint: folder, or the name of a shipped checkpoint such as "stories-ar".
        count: number of texts.
        seed: of the draws.

    Raises:
        UserError: the count is below 1 or the seed below 0; when texts are drawn, the checkpoint is not autoregressive.
    """

    checkpoint: str
    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_count(self)

    @property
    def name(self) -> str:
        return f"prior:{self.checkpoint}:{self.count}{f':{self.seed}' if self.seed else ''}"

    def check(self) -> None:
        pass  # loading a checkpoint takes long: it is known to be one when it is read

    def texts(self, field: str) -> Iterator[str]:
        prior = load(self.checkpoint)
        if not isinstance(prior, Simulates):
            raise UserError(
                f"{self.checkpoint!r} writes no texts from left to right: name an autoregressive checkpoint"
            )
        generator, left = seeded(self.seed), self.count
        while left > 0:
            rows = prior.simulate(AT_ONCE, generator).tolist()
            whole = [row for row in rows if prior.vocabulary.eos in row]
            yield from (decode(prior.tokenizer, row) for row in whole[:left])
            left -= len(whole)

    def version(self) -> list[str | int]:
        network = load(self.checkpoint).network
        assert isinstance(network, nn.Module)
        return [fingerprint(network)]  # a folder may hold other weights than before
