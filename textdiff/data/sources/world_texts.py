"""Texts that an exact world generates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

from textdiff.data.sources.counts import check_count
from textdiff.data.sources.source import Source
from textdiff.worlds import sums, texts, world


@final
@dataclass(frozen=True)
class WorldTexts(Source):
    """Texts of an exact world, see `textdiff.worlds.WORLDS`; in short `world:name:count[:seed]`.

    `arithmetic-4-test` are sums of the tenth of all questions that `arithmetic-4-train` never asks.

    Args:
        world: its name.
        count: number of texts.
        seed: of the draws.

    Raises:
        UserError: the count is below 1 or the seed below 0; in `check`, there is no such world.
    """

    world: str
    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_count(self)

    @property
    def name(self) -> str:
        return f"world:{self.world}:{self.count}{f':{self.seed}' if self.seed else ''}"

    def check(self) -> None:
        self._texts()

    def texts(self, field: str) -> Iterator[str]:
        return self._texts()

    def version(self) -> list[str | int]:
        return [text.strip() for text in replace(self, count=16, seed=0).texts("")]  # a change of the world shows here

    def _texts(self) -> Iterator[str]:
        """From 5 operands on, sums have too many states to list, so their texts are drawn without the world."""
        if match := re.fullmatch(r"arithmetic(?:-([0-9]{1,9}))?(?:-(train|test))?", self.world):
            part = {"train": "train", "test": "test"}.get(match[2])
            return sums(int(match[1] or 3), n=self.count, generator=self.seed, part=part)  # type: ignore[arg-type]
        return texts(world(self.world), self.count, self.seed)
