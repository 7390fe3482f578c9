"""The one loop that fills gaps: steer, step, watch, until nothing is masked."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from textdiff.samplers.trajectory import Progress, Steer, Trajectory, Watch


class Decoder(ABC):
    """A batch of partly filled canvases and the way to fill them further: by a policy, or from left to right.

    `textdiff.samplers.denoise` has the one, `textdiff.samplers.causal` the other.
    """

    @property
    @abstractmethod
    def progress(self) -> Progress:
        """Where the batch stands; the decoder may change it in place in its next step."""

    @abstractmethod
    def select(self, rows: Tensor) -> None:
        """Continue with copies of these rows `[batch]`; random numbers stay with the place in the batch."""

    @abstractmethod
    def step(self) -> Tensor:
        """Fill some slots of every row that is not complete; returns the slots settled, bool `[batch, length]`."""

    @abstractmethod
    def trajectory(self) -> Trajectory:
        """The result, once nothing is masked."""


def run(decoder: Decoder, watch: Watch | None = None, steer: Steer | None = None) -> Trajectory:
    """Take a decoder to its end.

    Args:
        decoder: the batch.
        watch: called after each step that settled a slot.
        steer: called before the first step and after each; may replace rows by copies of others.
    """
    while True:
        if steer is not None:
            parents = steer(decoder.progress)
            if parents is not None:
                decoder.select(parents)
        if not decoder.progress.masked.any():
            return decoder.trajectory()
        settled = decoder.step()
        if watch is not None and settled.any():
            watch(decoder.progress.tokens.clone(), settled)
