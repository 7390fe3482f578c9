"""What every prior can do: fill the gaps of a text, and score a given fill."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.models import Transformer
from textdiff.samplers import LogProbKind, Trajectory, UnmaskingPolicy, Watch
from textdiff.text import Canvas, Filled, Template, Vocabulary

CHUNK = 2**14
"""Most canvas tokens per forward pass of `infill`."""


@dataclass(frozen=True)
class Fills:
    """Several fills of one template.

    Attributes:
        samples: each fill as text, whole and per gap.
        tokens: ids `[n, length]`, null in unused slots.
        log_q: log-probability in nats that the sampler gave to each fill, `[n]` float64; None for kind "none".
        kind: what `log_q` is: "exact", "given-order" (given the random order that was drawn) or "none".
        nfe: forward passes spent on each fill, `[n]`.
        seconds: wall time for all of them.
        label: how they were drawn, in words.
    """

    samples: tuple[Filled, ...]
    tokens: Tensor
    log_q: Tensor | None
    kind: LogProbKind
    nfe: Tensor
    seconds: float
    label: str

    @property
    def texts(self) -> list[str]:
        """The whole texts, gaps filled."""
        return [sample.text for sample in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Filled]:
        return iter(self.samples)

    def __getitem__(self, index: int) -> Filled:
        return self.samples[index]

    def __str__(self) -> str:
        scores = ["log q"] + (["-"] * len(self) if self.log_q is None else [f"{score:.2f}" for score in self.log_q])
        fills = [f"fill ({self.label})", *(" | ".join(sample.fills) for sample in self.samples)]
        return "\n".join(f"{score:>9}  {fill}" for score, fill in zip(scores, fills, strict=True))


class Prior(ABC):
    """A law over texts that can be conditioned on the text around gaps.

    Attributes:
        network: the transformer.
        tokenizer: text <-> ids.
        vocabulary: special ids and properties of tokens.
    """

    network: Transformer
    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary

    @abstractmethod
    def sample(
        self,
        canvas: Canvas,
        generator: Generator,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        watch: Watch | None = None,
    ) -> Trajectory:
        """Fill each row of a canvas once."""

    @abstractmethod
    def score(self, canvas: Canvas, tokens: Tensor, *, temperature: float = 1.0, top_p: float = 1.0) -> Trajectory:
        """Log-probability that `sample` would have filled `canvas` with the complete `tokens [batch, length]`."""

    @abstractmethod
    def with_policy(self, policy: UnmaskingPolicy | str | None = None, steps: int | None = None) -> Prior:
        """The same network under another unmasking policy, which makes it another prior.

        Args:
            policy: the policy, or its name in `textdiff.samplers.POLICIES`; None: the one that the prior has.
            steps: how many; None: as the policy is, or as a policy of that name is by itself.

        Raises:
            UserError: no such policy, or no choice of policy or steps.
        """

    @property
    @abstractmethod
    def label(self) -> str:
        """How samples are drawn, in a few words."""

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self.network.device

    def infill(
        self,
        text: str,
        n: int = 1,
        *,
        steps: int | None = None,
        policy: UnmaskingPolicy | str | None = None,
        seed: int | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        watch: Watch | None = None,
    ) -> Fills:
        """Fill the gaps of a text, `n` times independently.

        Args:
            text: a template such as `"Lily lost her ball. [gap] She was happy."`; `[gap:12]` is exactly 12 tokens,
                `[gap:4-16]` between 4 and 16, `[gap]` between 1 and 32; `\\[gap]` is the word itself.
            n: number of fills.
            steps: most denoising steps; fewer are faster and less faithful.
            policy: which tokens to reveal in each step, by object or name (see `textdiff.samplers.POLICIES`).
            seed: of the random numbers; drawn from the system if None.
            temperature, top_p: sharpen each draw; away from 1 the fills are no longer posterior samples.
            watch: called after each step with the canvas `[n, length]` and the slots it revealed, all n in one batch.

        Raises:
            UserError: no gap, an empty text, a text longer than the model's context, a bad option.
        """
        if n < 1:
            raise UserError(f"n is {n}: ask for at least 1 fill")
        prior = self if policy is None and steps is None else self.with_policy(policy, steps)
        template = Template.parse(text)
        canvas = template.encode(self.tokenizer)
        self._check_length(canvas)
        generator = _seeded(seed)
        most = n if watch is not None else max(1, CHUNK // canvas.tokens.shape[1])
        start = time.perf_counter()
        parts = [
            prior.sample(
                canvas.repeat(min(most, n - done)).to(self.device),
                generator,
                temperature=temperature,
                top_p=top_p,
                watch=watch,
            )
            for done in range(0, n, most)
        ]
        tokens, nfe = torch.cat([part.tokens for part in parts]).cpu(), torch.cat([part.nfe for part in parts]).cpu()
        scores = [part.log_q.cpu() for part in parts if part.log_q is not None]
        seconds = time.perf_counter() - start
        samples = tuple(template.decode(self.tokenizer, row) for row in tokens)
        return Fills(samples, tokens, torch.cat(scores) if scores else None, parts[0].kind, nfe, seconds, prior.label)

    def _check_length(self, canvas: Canvas) -> None:
        longest, length = self.network.config.max_position_embeddings, canvas.tokens.shape[1]
        if length > longest:
            slots = int(canvas.slots.sum())
            raise UserError(
                f"the text takes {length} tokens, {slots} of them in gaps, and the model reads at most {longest}: "
                "shorten the text or its gaps, e.g. [gap:1-16]"
            )


def _seeded(seed: int | None) -> Generator:
    generator = Generator()
    if seed is None:
        generator.seed()
        return generator
    try:
        return generator.manual_seed(seed)
    except (RuntimeError, ValueError):
        raise UserError(f"seed is {seed!r}, expected a whole number of at most 64 bits") from None
