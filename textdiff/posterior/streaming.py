"""Streamed infilling: the partly filled canvases after each denoising step, then the samples."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from queue import Queue
from typing import final

from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.posterior.posterior import Conditioning, Posterior
from textdiff.posterior.samples import WeightedSamples
from textdiff.samplers import Tempering
from textdiff.text.tokenizer import decode

OPEN = "░"
"""Stands for a token that is still open."""


@final
@dataclass(frozen=True, eq=False)
class Draft:
    """Partly filled texts.

    Attributes:
        tokens: ids `[n, length]`, mask where still open, null in slots that will stay unused.
        open: bool `[n, length]`, slots that are still to be filled.
        revealed: bool `[n, length]`, slots that the last step filled or left unused.
    """

    tokens: Tensor
    open: Tensor
    revealed: Tensor
    tokenizer: PreTrainedTokenizerBase = field(repr=False)

    @property
    def texts(self) -> list[str]:
        """The texts as far as they are known, ░ for each token that is still open."""
        return [self._text(row, gap) for row, gap in zip(self.tokens.tolist(), self.open.tolist(), strict=True)]

    def _text(self, row: list[int], gap: list[bool]) -> str:
        text, null = "", self.tokenizer.null_token_id
        for hidden, run in groupby(zip(row, gap, strict=True), key=lambda slot: slot[1]):
            ids = [token for token, _ in run if token != null]
            text += OPEN * len(ids) if hidden else decode(self.tokenizer, ids, continues=bool(text))
        return text


class _Abandoned(Exception):
    """The iterator was closed before the last step."""


def stream(
    posterior: Posterior, n: int, tempering: Tempering, generator: Generator
) -> Iterator[Draft | WeightedSamples]:
    """Draw `n` fills with `Conditioning` and show them after each step; the last item are the samples.

    The sampler runs in a thread of its own and waits after each step until the next item is asked for, so that nothing
    is computed ahead, however the prior's own loop is written. Dropping or closing the iterator ends the thread.
    """
    shown: Queue[Draft | None] = Queue(1)
    asked: Queue[bool] = Queue(1)
    left = posterior.canvas.repeat(n).slots

    def watch(tokens: Tensor, revealed: Tensor) -> None:
        nonlocal left
        again = posterior.canvas.slots & (tokens == posterior.prior.vocabulary.mask)
        left = left & ~revealed | again
        shown.put(Draft(tokens.cpu(), left.cpu(), revealed.cpu(), posterior.prior.tokenizer))
        if not asked.get():
            raise _Abandoned

    def draw() -> WeightedSamples:
        try:
            return posterior.sample(n, Conditioning(tempering, watch), generator=generator)
        finally:
            shown.put(None)

    with ThreadPoolExecutor(1, "textdiff-stream") as thread:
        running = thread.submit(draw)
        while (draft := shown.get()) is not None:
            more = False
            try:
                yield draft
                more = True
            finally:
                asked.put(more)
                if not more:
                    shown.get()  # the None by which the thread says that it has ended
        yield running.result()
