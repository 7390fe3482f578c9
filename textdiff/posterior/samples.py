"""Weighted samples of a posterior: effective sample size, log-evidence with its error, resampling, text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Generator, Tensor

from textdiff.errors import UserError
from textdiff.files.fields import Field, whole
from textdiff.samplers import LogProbKind, seed_generator
from textdiff.text import Filled


@dataclass(frozen=True, eq=False)
class Genealogy:
    """Ancestry of the particles of a particle system, from which the error of the log-evidence is estimated.

    Attributes:
        founders: `[n]` long, the first-generation ancestor of each particle.
        resamplings: number of times that the particles were resampled.
        variance: sum, over these times, of the relative variance of the mean of the weights.
    """

    founders: Tensor
    resamplings: int
    variance: float


@dataclass(frozen=True, eq=False)
class WeightedSamples:
    """Samples of a posterior with their weights.

    Attributes:
        tokens: ids `[n, length]`, null in unused slots.
        log_weights: `[n]` float64, nats: the target's unnormalised log-density less the log-density of the draw. The
            weights' mean estimates the evidence, where the method has one.
        log_q: log-probability in nats that the sampler gave to each fill, `[n]` float64; None for kind "none".
        kind: what `log_q` is: "exact", "given-order" (given the random order that was drawn) or "none".
        nfe: forward passes spent on each sample, `[n]`, those of the target counted in.
        seconds: wall time for all of them.
        label: how they were drawn, in words.
        target: what the weighted samples are samples of.
        exactness: in what sense.
        genealogy: of a particle system; None: the samples are independent.
        has_evidence: whether the weights' mean estimates the evidence.
        diagnostics: further figures, by name, such as an acceptance rate.
        decoder: turns rows of ids into texts.
    """

    tokens: Tensor
    log_weights: Tensor
    log_q: Tensor | None
    kind: LogProbKind
    nfe: Tensor
    seconds: float
    label: str
    target: str
    exactness: str
    genealogy: Genealogy | None = None
    has_evidence: bool = True
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    decoder: Callable[[Tensor], tuple[Filled, ...]] = field(kw_only=True, repr=False)

    @cached_property
    def samples(self) -> tuple[Filled, ...]:
        """Each fill as text, whole and per gap; decoded when first asked for."""
        return self.decoder(self.tokens)

    @property
    def texts(self) -> list[str]:
        """The whole texts, gaps filled."""
        return [sample.text for sample in self.samples]

    @property
    def alive(self) -> bool:
        """Whether any sample has a weight."""
        return bool((self.log_weights > -math.inf).any())

    @property
    def weights(self) -> Tensor:
        """Normalised weights w_i / sum w, `[n]`; all zero if no sample is alive."""
        return self.log_weights.softmax(0) if self.alive else torch.zeros_like(self.log_weights)

    @property
    def ess(self) -> float:
        """Effective sample size, (sum w)^2 / sum w^2: 1 to n; 0 if no sample is alive."""
        return float(1 / self.weights.square().sum()) if self.alive else 0.0

    @property
    def log_evidence(self) -> float | None:
        """log (1/n) sum w in nats, an estimate of the target's log-normaliser from below; None if there is none."""
        if not self.has_evidence:
            return None
        return float(self.log_weights.logsumexp(0)) - math.log(len(self))

    @property
    def log_evidence_error(self) -> float | None:
        """Standard error of `log_evidence`: the relative error of the weights' mean, nan from one sample.

        For particles that were resampled, from their founders (Lee and Whiteley 2018, doi:10.1093/biomet/asy028); that
        unbiased estimate may be negative, so it is not taken below the sum of the variances of the stages.
        """
        n = len(self)
        if not self.has_evidence:
            return None
        if n == 1 or not self.alive:
            return math.nan
        stage = relative_variance(self.weights)
        if self.genealogy is None:
            return math.sqrt(stage)
        shares = torch.zeros(n, dtype=torch.float64).index_add(0, self.genealogy.founders, self.weights)
        apart = 1 - float(shares.square().sum())
        by_founders = 1 - (n / (n - 1)) ** (self.genealogy.resamplings + 1) * apart
        return math.sqrt(max(by_founders, self.genealogy.variance + stage))

    def resample(self, n: int | None = None, *, generator: Generator | int | None = None) -> WeightedSamples:
        """`n` equally weighted samples, drawn from these by weight (systematically); as many as there are if None.

        Raises:
            UserError: no sample is alive, or `n` is less than 1.
        """
        n = len(self) if n is None else n
        whole(1, 2**24).check("n", n)
        if not self.alive:
            raise UserError("no sample has any weight, there is nothing to resample: draw more, or by another method")
        start = torch.rand(1, generator=seeded(generator, "generator"), dtype=torch.float64)
        cdf = self.weights.cumsum(0)
        points = (torch.arange(n) + start) / n * cdf[-1]
        rows = torch.searchsorted(cdf, points.clamp(max=cdf[-1].nextafter(torch.zeros(()).double())), right=True)
        return replace(
            self,
            tokens=self.tokens[rows],
            log_weights=torch.zeros(n, dtype=torch.float64),
            log_q=None if self.log_q is None else self.log_q[rows],
            nfe=self.nfe[rows],
            label=f"{self.label}, resampled",
            genealogy=None,
            has_evidence=False,
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def __iter__(self) -> Iterator[Filled]:
        return iter(self.samples)

    def __getitem__(self, index: int) -> Filled:
        return self.samples[index]

    def __str__(self) -> str:
        """A line for each sample: log q, weight where they differ, and the fills."""
        scores = ["log q"] + (["-"] * len(self) if self.log_q is None else [f"{score:.2f}" for score in self.log_q])
        rows = [f"fill ({self.label})", *(" | ".join(sample.fills) for sample in self.samples)]
        if bool((self.log_weights == self.log_weights[0]).all()):
            return "\n".join(f"{score:>9}  {fill}" for score, fill in zip(scores, rows, strict=True))
        weights = ["weight", *(f"{weight:.3f}" for weight in self.weights)]
        head = f"ess {self.ess:.1f} of {len(self)}"
        if self.log_evidence is not None:
            head += f", log evidence {self.log_evidence:.2f} ± {self.log_evidence_error:.2f} nats"
        lines = (f"{s:>9}  {w:>6}  {fill}" for s, w, fill in zip(scores, weights, rows, strict=True))
        return "\n".join([head, *lines])


@dataclass(frozen=True)
class Scored:
    """A log-probability, with the sense in which it is known.

    Attributes:
        log_prob: nats.
        kind: "exact", or "bound" (from below, where the order of filling is drawn at random).
    """

    log_prob: float
    kind: str

    def __float__(self) -> float:
        return self.log_prob


def relative_variance(weights: Tensor) -> float:
    """Variance of the mean of n weights over the square of that mean, from the normalised `weights [n]`."""
    n = len(weights)
    return max(0.0, (n * float(weights.square().sum()) - 1) / (n - 1))


SEED = whole(0, 2**64 - 1)
SOURCE = Field(
    lambda value: value is None or SEED.fits(value) or (isinstance(value, Generator) and value.device.type == "cpu"),
    "expected a seed from 0 to 2**64 - 1, a generator on the CPU, or None",
)


def seeded(seed: Generator | int | None, name: str = "seed") -> Generator:
    """A generator: the given one, or a new one with that seed, or with one of the system's.

    Args:
        seed: a generator on the CPU, or a seed of 64 bits, each of which counts.
        name: of the argument, in the message.

    Raises:
        UserError: it is neither.
    """
    SOURCE.check(name, seed)
    if isinstance(seed, Generator):
        return seed
    generator = Generator()
    if seed is None:
        generator.seed()
    else:
        seed_generator(generator, int(seed))
    return generator
