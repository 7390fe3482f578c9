"""The answer of `textdiff infill`: the fills, what it takes to repeat them, and what their numbers mean."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from textdiff.display.viewer import Denoising
from textdiff.inference import Infilled
from textdiff.posterior import WeightedSamples
from textdiff.samplers import LogProbKind
from textdiff.text import Template

_MEANING = {
    LogProbKind.EXACT: "log q is exact: the log-probability that this sampler draws the fill",
    LogProbKind.GIVEN_ORDER: "log q is given the order of filling, which was drawn at random",
    LogProbKind.NONE: "log q is not known for this policy",
}


@dataclass(frozen=True)
class Answer:
    """Fills of a text by one checkpoint, ready to be shown.

    Attributes:
        found: the fills, the options that they answer and the prior that drew them.
        denoisings: how each fill came about.
        checkpoint: folder of the model.
        target: folder of the model whose posterior weighs the draws of `particles`; None without particles.
    """

    found: Infilled
    denoisings: tuple[Denoising, ...]
    checkpoint: str
    target: str | None = None

    @property
    def template(self) -> Template:
        """The known text and its gaps."""
        return self.found.options.template

    @property
    def fills(self) -> WeightedSamples:
        """What was drawn."""
        return self.found.samples

    @property
    def prefix_only(self) -> bool:
        """Whether the text after a gap had no say."""
        return not self.found.sees_suffix

    @property
    def seed(self) -> int | None:
        """Of the random numbers."""
        return self.found.options.seed

    @property
    def sight(self) -> str:
        """What the model sees of the text."""
        return "prefix-only: does not see the suffix" if self.prefix_only else "sees the text on both sides of a gap"

    @property
    def meaning(self) -> str:
        """What `log q` is."""
        if self.found.options.particles is not None:
            return f"log q estimates log p(fill | text) under {self._judge}, from {self.found.options.particles} draws"
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
        if self.found.options.particles is not None:
            caveats.append(
                f"each fill is one of {self.found.options.particles} draws, by weight; a set was worth "
                f"{self.fills.diagnostics['set_ess']:.1f}: posterior samples of {self._judge} only as sets grow"
            )
        elif not self.found.options.tempering.neutral:
            caveats.append(f"not posterior samples: {self.found.options.tempering}")
        return tuple(caveats)

    @property
    def weights(self) -> list[float] | None:
        """Share of each fill in the distribution given the constraints; None where all weigh the same."""
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
            "policy": self.found.policy,
            "seed": self.seed,
            **asdict(self.found.options.tempering),
            "particles": self.found.options.particles,
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
