"""What a teacher has drawn for a set of queries, and the file in which a later run finds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from textdiff.files import atomically


@final
@dataclass(frozen=True, eq=False)
class TeacherSamples:
    """Weighted fills of queries.

    Attributes:
        fills: by the number of the query, ids `[kept, slots]` and log-weights `[kept]`, nats.
        ess: effective sample size as a share of the samples drawn, the mean over queries.
    """

    fills: Mapping[int, tuple[Tensor, Tensor]]
    ess: float

    def write(self, path: Path) -> None:
        """Write a safetensors file, which is never seen half written."""
        tensors = {"ess": torch.tensor(self.ess, dtype=torch.float64)}
        for number, (tokens, log_weights) in self.fills.items():
            tensors |= {f"tokens.{number}": tokens, f"weights.{number}": log_weights}
        with atomically(path) as file:
            file.write(save(tensors))

    @classmethod
    def read(cls, path: Path) -> TeacherSamples:
        """Read what `write` has written."""
        tensors = load_file(path)
        numbers = sorted(int(name.removeprefix("tokens.")) for name in tensors if name.startswith("tokens."))
        fills = {number: (tensors[f"tokens.{number}"], tensors[f"weights.{number}"]) for number in numbers}
        return cls(fills, float(tensors["ess"]))
