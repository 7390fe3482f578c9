"""What some priors can do and others cannot, as protocols: `isinstance(prior, ExactJoint)`.

Callers ask for a capability, never for the class of a prior, so that a prior of a user's own has it by having the
methods.
"""

from __future__ import annotations

from typing import Literal, Protocol, Self, runtime_checkable

from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.denoisers import DenoisingNetwork
from textdiff.models import Transformer
from textdiff.samplers import NEUTRAL, GivenTokens, Steer, Streams, Tempering, Trajectory, UnmaskingPolicy
from textdiff.samplers.causal import CausalDecoding
from textdiff.text import Canvas, Vocabulary

Layout = Literal["psm", "spm"]
"""Order of the evidence in a fill-in-the-middle prompt: prefix and suffix, or suffix and prefix."""


@runtime_checkable
class ExactJoint(Protocol):
    """Knows the exact joint log-probability of a complete text, and so makes a target for other samplers."""

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Log-probability of complete texts `[batch, length]`, null and padding left out, in nats `[batch]` float64."""
        ...


@runtime_checkable
class ExactPosterior(ExactJoint, Protocol):
    """Samples the exact posterior given fixed tokens and knows their evidence, without a forward pass."""

    def log_evidence(self, canvas: Canvas) -> Tensor:
        """Exact log-probability of the fixed tokens of each row, summed over all fills of its gaps: `[batch]`, nats."""
        ...


@runtime_checkable
class Simulates(Protocol):
    """Draws whole texts."""

    def simulate(self, n: int, generator: Generator | int | None = None, longest: int = ...) -> Tensor:
        """`n` texts with bos and eos around each, padded: ids `[n, at most longest]`."""
        ...


@runtime_checkable
class CausalJoint(ExactJoint, Protocol):
    """An exact joint by the chain rule: a causal network that gives the next token, and can continue a text."""

    @property
    def network(self) -> Transformer:
        """The causal network."""
        ...

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Text <-> ids."""
        ...

    def simulate(
        self,
        n: int,
        generator: Generator | int | None = None,
        longest: int | None = None,
        beginning: str = "",
        tempering: Tempering = NEUTRAL,
    ) -> Tensor:
        """`n` texts that continue `beginning`, padded: ids `[n, at most longest]`."""
        ...


@runtime_checkable
class SupportsParticles(Protocol):
    """Fills gaps in steps, between which rows may be replaced by copies of others: what particle methods need."""

    def steered(
        self,
        canvas: Canvas,
        generator: Generator,
        steer: Steer,
        given_tokens: GivenTokens | None = None,
    ) -> Trajectory:
        """`sample` as a particle system, see `textdiff.samplers.steered`."""
        ...


@runtime_checkable
class DecodesCausally(Protocol):
    """Fills each gap from left to right, one token at a time: what beam search needs."""

    @property
    def draws_lengths(self) -> bool:
        """Whether the length of an open gap is drawn before its first token."""
        ...

    def causal_decoding(
        self, canvas: Canvas, streams: Streams, given_tokens: GivenTokens | None = None
    ) -> CausalDecoding:
        """The state of a decoding of a canvas that has gaps in all rows, before the first token.

        Args:
            canvas: what is to be filled.
            streams: random numbers, for lengths that are drawn.
            given_tokens: texts whose lengths some rows take.
        """
        ...


@runtime_checkable
class LengthDistribution(Protocol):
    """Knows the distribution of the number of tokens in a gap of open length."""

    def length_log_probs(self, canvas: Canvas, gap: int = 0) -> Tensor:
        """Log-probabilities of 0, 1, ... tokens in a gap, `[batch, slots + 1]` float64, nats."""
        ...


@runtime_checkable
class Denoises(Protocol):
    """Fills gaps by a denoiser under an unmasking policy."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Text <-> ids."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """Special ids and properties of tokens."""
        ...

    @property
    def network(self) -> DenoisingNetwork:
        """The denoiser."""
        ...

    @property
    def policy(self) -> UnmaskingPolicy:
        """Which tokens are revealed in each step."""
        ...

    def with_policy(self, policy: UnmaskingPolicy | str | None = None, steps: int | None = None) -> Self:
        """The same network under another policy."""
        ...


@runtime_checkable
class SupportsGuidance(Protocol):
    """Can weigh the evidence more than the posterior does."""

    def with_guidance(self, weight: float) -> Self:
        """The same prior with a guided denoiser, see `textdiff.denoisers.Guided`."""
        ...


@runtime_checkable
class SupportsExpert(Protocol):
    """Can form a product of experts with an autoregressive prior."""

    def with_expert(self, expert: CausalJoint, share: float = 0.5, tilt: float = 1.0) -> Self:
        """The product, filled from left to right, see `textdiff.denoisers.ProductOfExperts`."""
        ...


@runtime_checkable
class ChoosesLayout(Protocol):
    """Reads the evidence in an order that can be chosen, as fill-in-the-middle does."""

    def with_layout(self, layout: Layout) -> Self:
        """The same network with prefix and suffix in another order."""
        ...
