"""An answer of the command line: the fills, what it takes to repeat them, and what their numbers mean."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from textdiff.display.viewer import Denoising, Recorder
from textdiff.evidence import Evidence, Observed
from textdiff.inference import Importance, Resampled
from textdiff.posterior import Denoises, Prior, WeightedSamples
from textdiff.samplers import NEUTRAL, LogProbKind, Tempering, Watch, registered_name
from textdiff.text import Template

_MEANING = {
    LogProbKind.EXACT: "log q is exact: the log-probability that this sampler draws the fill",
    LogProbKind.GIVEN_ORDER: "log q is given the order of filling, which was drawn at random",
    LogProbKind.NONE: "log q is not known for this policy",
}


@dataclass(frozen=True)
class Answer:
    """Fills of a text by one checkpoint.

    Attributes:
        template: the known text and its gaps.
        fills: what was drawn.
        denoisings: how each fill came about.
        checkpoint: folder of the model.
        policy: name of the unmasking policy.
        prefix_only: the model does not see the text after a gap.
        seed: of the random numbers.
        tempering: of the draws.
        particles: draws that each fill was chosen from, by weight towards `target`; None: it is the draw.
        target: folder of the model whose posterior weighs draws.
    """

    template: Template
    fills: WeightedSamples
    denoisings: tuple[Denoising, ...]
    checkpoint: str
    policy: str
    prefix_only: bool
    seed: int
    tempering: Tempering
    particles: int | None = None
    target: str | None = None

    @classmethod
    def of(
        cls,
        prior: Prior,
        text: str,
        n: int,
        *,
        constraint: Evidence | None = None,
        checkpoint: str,
        seed: int,
        tempering: Tempering = NEUTRAL,
        particles: int | None = None,
        target: Prior | None = None,
        target_checkpoint: str | None = None,
        watch: Watch,
    ) -> Answer:
        """Fill the gaps of a text `n` times, see `Prior.infill`; `watch` is called after each step.

        A `constraint` is satisfied by every fill. With `particles`, each fill is one of so many draws, by weight
        towards `target`, which lies in `target_checkpoint`, see `Resampled`.
        """
        recorder = Recorder()

        def both(tokens: Tensor, revealed: Tensor) -> None:
            recorder(tokens, revealed)
            watch(tokens, revealed)

        evidence = text if constraint is None else Observed(text) & constraint
        if particles is None:
            fills = prior.infill(evidence, n, seed=seed, **asdict(tempering), watch=both)
        else:
            method = Resampled(Importance(tempering.temperature, both), particles)
            fills = prior.given(evidence, target=target).sample(n, method, generator=seed)
        policy = "left-to-right"
        if isinstance(prior, Denoises):
            policy = registered_name(prior.policy) or prior.label
        return cls(
            template=Template.parse(text),
            fills=fills,
            denoisings=recorder.denoisings(prior, text, fills),
            checkpoint=checkpoint,
            policy=policy,
            prefix_only=not prior.sees_suffix and particles is None,
            seed=seed,
            tempering=tempering,
            particles=particles,
            target=target_checkpoint,
        )

    @property
    def sight(self) -> str:
        """What the model sees of the text."""
        return "prefix-only: does not see the suffix" if self.prefix_only else "sees the text on both sides of a gap"

    @property
    def meaning(self) -> str:
        """What `log q` is."""
        if self.particles is not None:
            return f"log q estimates log p(fill | text) under {self._judge}, from {self.particles} draws"
        return _MEANING[self.fills.kind]

    @property
    def _judge(self) -> str:
        return Path(self.target or "").name

    @property
    def caveats(self) -> tuple[str, ...]:
        """Why the fills are not samples of the model's posterior; empty if they are."""
        caveats = []
        if self.fills.kind is LogProbKind.NONE:
            caveats.append("not posterior samples: this policy looks at what was drawn, or takes some of it back")
        if self.weights is not None and len(self.fills) > 1:
            caveats.append(
                "all fills satisfy the constraints; weighted as shown they are draws of the sampler's law given that, "
                f"worth {self.fills.ess:.1f} of {len(self.fills)} unweighted ones"
            )
        if self.particles is not None:
            caveats.append(
                f"each fill is one of {self.particles} draws, by weight; a set was worth "
                f"{self.fills.diagnostics['set_ess']:.1f}: posterior samples of {self._judge} only as sets grow"
            )
        elif not self.tempering.neutral:
            caveats.append(f"not posterior samples: {self.tempering}")
        return tuple(caveats)

    @property
    def weights(self) -> list[float] | None:
        """Share of each fill in the law given the constraints; None where all weigh the same."""
        if not self.fills.has_evidence or not self.fills.alive:
            return None
        return list(self.fills.log_weights.softmax(dim=0).tolist())

    def as_json(self, show_steps: bool = False) -> dict[str, Any]:
        """What `textdiff infill --json` prints; lists have one item per fill."""
        fills, denoisings = self.fills, self.denoisings
        answer: dict[str, Any] = {
            "checkpoint": self.checkpoint,
            "label": fills.label,
            "sees": "prefix" if self.prefix_only else "prefix and suffix",
            "policy": self.policy,
            "seed": self.seed,
            **asdict(self.tempering),
            "particles": self.particles,
            "target": self.target,
            "caveats": list(self.caveats),
            "texts": fills.texts,
            "fills": [list(filled.fills) for filled in fills],
            "kind": str(fills.kind),
            "weights": self.weights,
            "log_q": None if fills.log_q is None else fills.log_q.tolist(),
            "tokens": [denoising.tokens for denoising in denoisings],
            "steps": [denoising.steps for denoising in denoisings],
            "nfe": fills.nfe.tolist(),
            "seconds": fills.seconds,
        }
        if show_steps:
            answer["denoising"] = [
                [
                    [{"token": text, "step": token.step} for text, token in zip(texts, gap, strict=True)]
                    for texts, gap in zip(denoising.frame(denoising.steps), denoising.gaps, strict=True)
                ]
                for denoising in denoisings
            ]
        return answer
