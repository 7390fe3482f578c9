"""The posterior of a prior given evidence, the contract of inference methods, and the simplest of them."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from textdiff.errors import Impossible, UserError
from textdiff.evidence import Evidence, templates
from textdiff.files.fields import FUNCTION, TEXT, Field, check_fields, instance, several, whole
from textdiff.posterior.capabilities import ExactJoint
from textdiff.posterior.distribution import TextDistribution
from textdiff.posterior.draws import Draws
from textdiff.posterior.samples import Scored, WeightedSamples, seeded
from textdiff.samplers import NEUTRAL, LogProbKind, Tempering, Trajectory, Watch, satisfiable
from textdiff.text import Canvas, Filled, ProductDFA, Template, decode_rows, encode

CHUNK = 2**14
"""Most canvas tokens per forward pass."""
MOST_TOKENS = 2**24
"""Of all draws of one call, their canvases counted whole: 128 MiB as ids."""
MOST_AT_ONCE = 2**20
"""Of draws that are filled side by side, as particles are."""
COUNT = whole(1)
"""Of draws; how many of them there may be depends on the length of the text."""

ORDERS = 64
"""Random orders that a bound on a log-probability averages over."""


class PosteriorSampler(ABC):
    """An inference method: a way to draw from a posterior.

    Attributes:
        exactness: in what sense its weighted draws follow their target, in words.
        fields: what its arguments may be; a dataclass checks them when it is made.
    """

    exactness: ClassVar[str]
    fields: ClassVar[Mapping[str, Field]] = {}

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            UserError: one is not what it may be.
        """
        check_fields(vars(self), self.fields)

    @abstractmethod
    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """Draw `n` weighted samples; called by `Posterior.sample`."""


@final
@dataclass(frozen=True, eq=False)
class Posterior:
    """The distribution of texts given evidence: p(x) p(y | x), normalised over texts that agree with the fixed tokens.

    Args:
        prior: proposes fills.
        evidence: what is known, y.
        target: the prior p(x) whose posterior it is; `prior` itself by default. Its density is the exact joint where it
            has one (autoregressive priors and worlds), else the distribution of its sampler, which is what a diffusion
            prior means by p(x).

    Attributes:
        canvas: the fixed tokens and the gaps, one row, with the automaton of the constraints if there are any.

    Raises:
        UserError: the evidence fixes nothing, is too long for a model, or the two priors do not share a tokenizer.
    """

    prior: TextDistribution
    evidence: Evidence
    target: TextDistribution
    canvas: Canvas = field(init=False)

    def __post_init__(self) -> None:
        check_fields(vars(self), _PARTS)
        priors = {id(p): p for p in (self.prior, self.target)}.values()
        for prior in priors:
            for template in templates(self.evidence):
                prior.check_template(template)
        canvas = self.evidence.canvas(self.prior.tokenizer)
        if canvas is None:
            raise UserError('the evidence fixes no text: add some, as in Observed("Once [gap] end.") & Likelihood(f)')
        if self.target is not self.prior and self.target.tokenizer.get_vocab() != self.prior.tokenizer.get_vocab():
            raise UserError("proposal and target have different tokenizers: give two priors that were trained together")
        for prior in priors:
            prior.check_canvas(canvas)
        if dfas := self.evidence.dfas(canvas, self.prior.tokenizer):
            dfa = ProductDFA.of(dfas, str(self.evidence))
            canvas = replace(canvas, dfa=dfa)
            if not satisfiable(canvas, self.prior.vocabulary):
                raise Impossible(f"no fill of the gaps satisfies what is asked for: {dfa.description}; {_room(canvas)}")
        object.__setattr__(self, "canvas", canvas.to(self.prior.device))

    @property
    def template(self) -> Template | None:
        """The template of the evidence, if it has one."""
        return self.evidence.template

    @property
    def targets_own_sampler(self) -> bool:
        """Whether the target is the distribution of the prior's own sampler, so that a plain draw needs no weight."""
        return self.target is self.prior and not isinstance(self.prior, ExactJoint)

    @property
    def weighs(self) -> bool:
        """Whether texts that agree with the fixed tokens differ in likelihood, or some of them are ruled out."""
        return self.evidence.weighs or self.canvas.dfa is not None

    def log_likelihood(self, tokens: Tensor) -> Tensor:
        """log p(y | x) of complete texts `[n, length]`, float64 `[n]`; -inf where a constraint is not satisfied."""
        found = self.evidence.log_likelihood(tokens, self.decode)
        if self.canvas.dfa is not None:
            found = found.masked_fill(~self.canvas.dfa.accepts(tokens), -math.inf)
        return found

    @property
    def description(self) -> str:
        """The target in words."""
        distribution = "posterior under the joint of" if isinstance(self.target, ExactJoint) else "law of the sampler"
        weighted = ", weighted by the likelihood" if self.evidence.weighs else ""
        given = ", given the constraints" if self.canvas.dfa is not None else ""
        return f"{distribution} {self.target.label}{weighted}{given}"

    def sample(
        self, n: int = 1, method: PosteriorSampler | None = None, *, generator: Generator | int | None = None
    ) -> WeightedSamples:
        """Draw `n` weighted samples.

        Args:
            n: number of samples.
            method: how, see `textdiff.inference`; None: `Conditioning()`, the prior's own sampler.
            generator: the source of randomness, or a seed; None: seeded by the system.

        Raises:
            UserError: `n` is less than 1, or the method does not fit the prior, the target or the evidence.
        """
        self.check_count(n)
        started, method = time.perf_counter(), Conditioning() if method is None else method
        instance(PosteriorSampler, "an inference method, such as Importance()").check("method", method)
        draws = method.draw(self, n, seeded(generator))
        return self.weighted_samples(draws, method.exactness, time.perf_counter() - started)

    def check_count(self, n: int, name: str = "n", *, at_once: bool = False) -> None:
        """Check that so many texts may be drawn at once.

        Args:
            n: their number.
            name: what the user calls it, in the message.
            at_once: whether they are filled side by side, not in chunks.

        Raises:
            UserError: it is no number, or they take more than 16,777,216 tokens, or 1,048,576 at once.
        """
        COUNT.check(name, n)
        length, most = self.canvas.tokens.shape[1], MOST_AT_ONCE if at_once else MOST_TOKENS
        if n * length > most:
            raise UserError(
                f"{name} is {n}: as many texts of {length} tokens are more than {most} tokens, ask for "
                f"{most // length} at most"
            )

    def weighted_samples(self, draws: Draws, exactness: str, seconds: float) -> WeightedSamples:
        """Draws as samples of this posterior, on the CPU, that decode themselves."""
        log_weights = draws.log_weights
        if log_weights is None:
            log_weights = torch.zeros(len(draws.tokens), dtype=torch.float64)
        return WeightedSamples(
            tokens=draws.tokens.cpu(),
            log_weights=log_weights.double().cpu(),
            log_q=None if draws.log_q is None else draws.log_q.cpu(),
            kind=draws.kind,
            nfe=draws.nfe.cpu(),
            seconds=seconds,
            label=draws.label,
            target=self.description if draws.target is None else draws.target,
            exactness=exactness,
            genealogy=draws.genealogy,
            has_evidence=draws.has_evidence,
            diagnostics=draws.diagnostics,
            decoder=self.decode,
        )

    @torch.no_grad()
    def log_density(self, tokens: Tensor) -> tuple[Tensor, int]:
        """Unnormalised log-density of the target at complete texts `[n, length]`, float64 `[n]`; forward passes each.

        Raises:
            UserError: the target has no density, because its order of filling depends on drawn tokens or is random.
        """
        parts, passes = [], 0
        for rows in chunks(len(tokens), tokens.shape[1]):
            some = tokens[rows].to(self.target.device)
            canvas = self.canvas.free().repeat(len(some)).to(self.target.device)
            density, passes = self.target.log_density(canvas, some)
            parts.append(density.to(tokens.device) + self.log_likelihood(tokens[rows]))
        return torch.cat(parts), passes

    def log_prob(self, fill: str | Sequence[str] | Tensor, *, generator: Generator | int | None = 0) -> Scored:
        """Log-probability in nats that the prior's sampler gives to a fill.

        Exact where the order of filling is a function of the canvas, and for worlds, where it is the true posterior;
        for a random order the mean over 64 orders, whose log is a bound from below in expectation
        (arXiv:2506.01928, theorem 3).

        Args:
            fill: the text of the gap, one text for each gap, or ids `[length]` of the whole.
            generator: of the random orders.

        Raises:
            UserError: the number of fills is wrong, one does not fit its gap, or the sampler has no density.
        """
        tokens = self._complete(fill) if isinstance(fill, Tensor) else self._placed(fill)
        prior, canvas = self.prior, self.canvas
        if prior.kind is not LogProbKind.GIVEN_ORDER:
            log_q = prior.score(canvas, tokens.to(prior.device)).log_q
            assert log_q is not None
            return Scored(float(log_q.detach()), "exact")
        with torch.no_grad():
            many = prior.score(canvas.repeat(ORDERS), tokens.repeat(ORDERS, 1), generator=seeded(generator)).log_q
        assert many is not None
        return Scored(float(many.logsumexp(0)) - math.log(ORDERS), "bound")

    def _complete(self, tokens: Tensor) -> Tensor:
        """Ids of a whole text that agrees with the canvas, `[1, length]`."""
        canvas, size = self.canvas, self.prior.vocabulary.size
        if tokens.dtype != torch.long or tokens.shape != canvas.tokens.shape[1:]:
            raise UserError(
                f"fill is a tensor {list(tokens.shape)} of {tokens.dtype}: expected ids of the whole text, int64 "
                f"[{canvas.tokens.shape[1]}]"
            )
        if ((tokens < 0) | (tokens >= size)).any():
            raise UserError(f"fill holds an id outside a vocabulary of {size} tokens")
        if (tokens.to(canvas.tokens.device) != canvas.tokens[0])[canvas.observed[0]].any():
            raise UserError("fill differs from the known text outside the gaps")
        return tokens[None]

    def _placed(self, fill: str | Sequence[str]) -> Tensor:
        """The canvas with the fills' tokens in its slots, `[1, length]`."""
        fills = [fill] if isinstance(fill, str) else fill
        several(TEXT, "texts").check("fill", fills)
        canvas, vocabulary = self.canvas, self.prior.vocabulary
        gaps = canvas.minimum.shape[1]
        if len(fills) != gaps:
            raise UserError(f"{len(fills)} fills for {gaps} gaps: give one text for each gap")
        tokens = canvas.tokens.clone()
        for number, text in enumerate(fills):
            place = (canvas.gap[0] == number).nonzero()[:, 0]
            blank = bool(canvas.word_start[0, place[0]]) and text and not text.startswith(" ")
            ids = encode(self.prior.tokenizer, f" {text}" if blank else text, continues=bool(place[0] > 1))
            least, most = int(canvas.minimum[0, number]), len(place)
            if not least <= len(ids) <= most:
                allowed = f"{most}" if least == most else f"{least} to {most}"
                raise UserError(f"the fill {text!r} has {len(ids)} tokens, gap {number + 1} takes {allowed}")
            null = [vocabulary.null] * (most - len(ids))
            tokens[0, place] = torch.tensor([*ids, *null], device=tokens.device)
        return tokens

    def propose(
        self,
        n: int,
        generator: Generator,
        tempering: Tempering = NEUTRAL,
        watch: Watch | None = None,
    ) -> Trajectory:
        """`n` independent draws of the prior's sampler, in batches that fit into memory.

        Raises:
            UserError: they are too many, see `check_count`.
        """
        self.check_count(n, "the number of draws", at_once=watch is not None)
        length = self.canvas.tokens.shape[1]
        parts = [
            self.prior.sample(
                self.canvas.repeat(rows.stop - rows.start),
                generator,
                tempering=tempering,
                watch=watch,
            )
            for rows in ([slice(0, n)] if watch is not None else chunks(n, length))
        ]
        return Trajectory.cat(parts)

    def decode(self, tokens: Tensor) -> tuple[Filled, ...]:
        """Rows `[n, length]` as text, whole and per gap; slots that are still open are left out."""
        tokenizer, template, vocabulary = self.prior.tokenizer, self.template, self.prior.vocabulary
        if vocabulary.null is not None:
            tokens = tokens.masked_fill(tokens == vocabulary.mask, vocabulary.null)
        rows, which = tokens.cpu().unique(dim=0, return_inverse=True)  # many draws are alike, and decoding is slow
        if template is not None:
            decoded = template.decode_rows(tokenizer, self.canvas, rows)
        else:
            decoded = decode_rows(tokenizer, self.canvas.repeat(len(rows)), rows)
        return tuple(decoded[i] for i in which.tolist())


@final
@dataclass(frozen=True)
class Conditioning(PosteriorSampler):
    """Independent, equally weighted draws of the prior's own sampler given the fixed tokens.

    Under hard constraints every draw satisfies them, and the draws carry weights: weighted, they follow the sampler's
    distribution given that the constraints hold.

    Args:
        tempering: sharpens each draw; unless it is neutral they are no longer posterior samples.
        watch: called after each step with the canvas `[n, length]` and the slots it revealed, all n in one batch.
    """

    exactness: ClassVar[str] = "exact for the law of the sampler; how far that is from a posterior is what audits tell"
    fields: ClassVar[Mapping[str, Field]] = {
        "tempering": instance(Tempering, "a Tempering"),
        "watch": FUNCTION.optional(),
    }
    tempering: Tempering = NEUTRAL
    watch: Watch | None = None

    def draw(self, posterior: Posterior, n: int, generator: Generator) -> Draws:
        """Draw `n` samples.

        Raises:
            UserError: the evidence has a likelihood, which takes weights; or a constraint, and the prior is no
                denoiser or its policy has no log-probability.
        """
        if posterior.evidence.weighs:
            raise UserError(
                "plain conditioning heeds fixed tokens only, and the evidence has a likelihood: "
                "give method=Importance() or another of textdiff.inference"
            )
        drawn = posterior.propose(n, generator, self.tempering, self.watch)
        if posterior.canvas.dfa is not None and drawn.log_excess is None:
            raise UserError(
                f"draws of {posterior.prior.label} do not heed constraints: choose a diffusion prior and a policy that "
                "has a log-probability, such as 'strided'",
                python=", or give method=Importance() or Rejection()",
            )
        return self.draws(posterior, drawn)

    @staticmethod
    def draws(posterior: Posterior, drawn: Trajectory) -> Draws:
        """Fills of the canvas of a posterior, which its prior drew, as draws."""
        constrained, label = posterior.canvas.dfa is not None, posterior.prior.label
        return Draws(
            tokens=drawn.tokens,
            log_weights=drawn.log_excess,
            log_q=drawn.log_q,
            kind=drawn.kind,
            nfe=drawn.nfe,
            label=label,
            target=f"the sampler's own law ({label}){', given the constraints' if constrained else ''}",
            has_evidence=constrained,
        )


_PARTS = {
    "prior": instance(TextDistribution, "a prior, such as load() gives"),
    "target": instance(TextDistribution, "a prior, such as load() gives"),
    "evidence": instance(Evidence, "evidence, such as Observed('Once [gap] end.')"),
}
"""What a posterior is made of."""


def _room(canvas: Canvas) -> str:
    """The room that the gaps of a canvas of one row give, in words."""
    bounds = zip(canvas.minimum[0].tolist(), canvas.maximum[0].tolist(), strict=True)
    return f"there is room for {', '.join(f'{least} to {most}' for least, most in bounds)} tokens"


def chunks(rows: int, length: int) -> Iterator[slice]:
    """Slices of `rows` rows of `length` tokens that one forward pass can take."""
    most = max(1, CHUNK // length)
    for start in range(0, rows, most):
        yield slice(start, min(rows, start + most))
