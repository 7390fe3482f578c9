"""The settings of a comparison, as a YAML file gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, final

import torch

from textdiff.data import (
    HeldOutGap,
    HumanEval,
    Problem,
    Source,
    documents,
    held_out_code,
    held_out_gaps,
    held_out_sentences,
)
from textdiff.data import problems as code_problems
from textdiff.data.corpus import in_memory
from textdiff.data.corruption.fill_in_middle import MARKS
from textdiff.data.passages import in_passages
from textdiff.data.sources import check_sources, parse_sources, source_name, source_names
from textdiff.errors import UserError
from textdiff.evaluation.candidate import Candidate
from textdiff.evaluation.code_execution import passes
from textdiff.evaluation.compare import compare
from textdiff.evaluation.comparison import Comparison
from textdiff.evaluation.text_scores import TextScore
from textdiff.evaluation.world_items import world_items
from textdiff.files import atomically, probe_folder, write_text
from textdiff.posterior import CausalJoint, ChoosesLayout, Layout, PosteriorSampler, Prior, SupportsExpert
from textdiff.pretrained import NetworkPrior, load
from textdiff.priors import DiffusionPrior
from textdiff.worlds import ProbabilisticAutomaton, world


@final
@dataclass(frozen=True)
class CandidateSettings:
    """A candidate by the names of its parts.

    Args:
        name: its name in the tables.
        checkpoint: folder, or the name of one that comes with textdiff; null: the world's perfect network.
        policy, steps: unmasking policy of a diffusion prior.
        expert: checkpoint of an autoregressive prior that a diffusion prior forms a product of experts with.
        layout: of a fill-in-the-middle prior; "prefix": its network given only the prefix.
        method: how posterior samples are drawn, by class; null: plain conditioning.
        target: checkpoint of the prior whose posterior is meant, or "world".
    """

    name: str
    checkpoint: str | None = None
    policy: str | None = None
    steps: int | None = None
    expert: str | None = None
    layout: Layout | Literal["prefix"] | None = None
    method: PosteriorSampler | None = None
    target: str | None = None


@final
@dataclass(frozen=True)
class ComparisonSettings:
    """What is compared on what, and where the results go.

    Args:
        candidates: differences are to the first.
        files: held-out text; the gaps are cut out of it. A text that is too long for a model is cut into passages. Or
            `humaneval:FILE.jsonl`, code infilling: the gaps are its canonical solutions, of at most `longest` tokens.
        field: column of jsonl, csv and parquet files that holds the text, or several, as in "sentence1+sentence2".
        world: or the name of a world, which generates texts and knows the exact posterior.
        gaps, gap_length: number of gaps, and tokens in each.
        places: gaps in each text of a world; the figures are those of all gaps of a text together.
        sentence, of: cut this one out of the first `of` sentences of each text, instead of gaps of `gap_length`;
            sentence 4 of 5 is the protocol of story infilling (arXiv:2310.04363).
        longest: tokens in a gap of unknown length, at most; null: twice `gap_length`.
        fills: drawn at once.
        timed: gaps on which speed and variety are measured.
        seed: of gaps and fills.
        device, dtype: where the networks live, such as "cuda", and in which type their weights are.
        scores: further scores of the text, by class, such as `textdiff.evaluation.BertScore`.
        run_code: WARNING: RUNS CODE THAT MODELS WROTE, on this machine and as you. Of `humaneval:` files: puts a fill
            into each program, runs its tests and reports the share that passes (pass@1, any length up to `longest`).
            Each runs in a process with limits of time, memory, files and network, which is no sandbox against malice:
            `textdiff.evaluation.code_execution` says what it stops and what not.
        to: folder for compare.md, .json, .png and .html, and for what is kept between runs.
    """

    candidates: Sequence[CandidateSettings]
    files: Sequence[str | Source] = ()
    field: str = "text"
    world: str | None = None
    gaps: int = 100
    gap_length: int = 32
    places: int = 1
    sentence: int | None = None
    of: int = 5
    longest: int | None = None
    fills: int = 16
    timed: int = 5
    seed: int = 0
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    scores: Sequence[TextScore] = ()
    run_code: bool = False
    to: str = "runs/compare"

    def run(self, progress: Callable[[str], None]) -> Comparison:
        """Compare, and save the results.

        Raises:
            UserError: the names do not fit together, or there is no text with room for such gaps.
        """
        self._check()
        folder = probe_folder(self.to, "to")
        truth = None if self.world is None else world(self.world)
        candidates = self._candidates(truth)
        longest = self.longest or 2 * self.gap_length
        items, problems = self._items(candidates, truth, longest)
        folder.mkdir(parents=True, exist_ok=True)
        found = compare(
            candidates,
            items,
            longest=longest,
            fills=self.fills,
            timed=self.timed,
            seed=self.seed,
            truth=truth,
            scores=self.scores,
            works=partial(_passed, problems) if self.run_code else None,
            cells=folder / "cells",
            progress=progress,
        )
        about = self._about(found.about, f"canonical solutions of at most {longest} tokens" if problems else None)
        found = replace(found, about=about)
        write_text(folder / "compare.md", f"{found}\n")
        write_text(folder / "compare.json", f"{found.json()}\n")
        write_text(folder / "compare.html", found.html())
        with atomically(folder / "compare.png") as file:
            found.figure().savefig(file, format="png", dpi=120)
        return found

    def _check(self) -> None:
        """Raise a `UserError` unless the settings fit together."""
        if (self.world is None) == (not self.files):
            raise UserError(
                "name what to compare on: either files of held-out text, or a world, as in "
                """--files '["valid.txt"]' or --world hmm"""
            )
        if self.sentence is not None and (self.world is not None or not 1 < self.sentence <= self.of):
            raise UserError(f"sentence is {self.sentence} of {self.of}: expected 2 to {self.of}, and files, no world")
        if self.gaps < 1 or self.gap_length < 1 or self.fills < 2 or self.timed < 1:
            raise UserError(
                f"gaps {self.gaps}, gap_length {self.gap_length} and timed {self.timed} must be at least 1, "
                f"fills {self.fills} at least 2"
            )
        sources = list(parse_sources(self.files))
        code = [source.name for source in sources if isinstance(source, HumanEval)]
        if code and (len(code) < len(sources) or self.sentence is not None):
            raise UserError(f"{code[0]!r} has gaps of its own: compare on it without other files and without sentence")
        if self.run_code and not code:
            raise UserError("run_code runs the tests of code infilling: give files as humaneval:FILE.jsonl")
        if self.places < 1 or (self.places > 1 and self.world is None):
            raise UserError(f"places is {self.places}: expected 1, or more on a world")
        if self.files:
            check_sources(self.files)

    def _candidates(self, truth: ProbabilisticAutomaton | None) -> list[Candidate]:
        """The candidates, each checkpoint loaded once."""
        loaded: dict[str, NetworkPrior] = {}

        def prior(name: str | None) -> NetworkPrior:
            if name is None:
                if truth is None:
                    raise UserError("a candidate has no checkpoint: name a folder, or one that comes with textdiff")
                return DiffusionPrior(truth, truth.tokenizer, truth.vocabulary)
            if name not in loaded:
                loaded[name] = load(name, self.device, getattr(torch, self.dtype))
            return loaded[name]

        candidates = []
        for settings in self.candidates:
            own = prior(settings.checkpoint)
            if settings.policy is not None or settings.steps is not None:
                own = own.with_policy(settings.policy, settings.steps)
            if settings.expert is not None:
                other = prior(settings.expert)
                if not isinstance(own, SupportsExpert) or not isinstance(other, CausalJoint):
                    raise UserError(f"{settings.name}: the expert of a diffusion prior is an autoregressive prior")
                own = own.with_expert(other)
            if settings.layout is not None:
                if not isinstance(own, ChoosesLayout):
                    raise UserError(f"{settings.name}: only fill-in-the-middle has a layout, this is {own.label}")
                own = own.prefix_only() if settings.layout == "prefix" else own.with_layout(settings.layout)
            target: Prior | None = truth
            if settings.target != "world":
                target = None if settings.target is None else prior(settings.target)
            candidates.append(Candidate(settings.name, own, settings.method, target))
        if not candidates:
            raise UserError("there are no candidates: name at least one")
        return candidates

    def _items(
        self, candidates: Sequence[Candidate], truth: ProbabilisticAutomaton | None, longest: int
    ) -> tuple[list[HeldOutGap], list[Problem]]:
        """The gaps; and their problems, if they are of code."""
        context = min(c.prior.context or 512 for c in candidates) - MARKS
        if truth is not None:
            room = context - self.places * (longest - self.gap_length)
            return world_items(truth, self.gaps, self.gap_length, seed=self.seed, longest=room, places=self.places), []
        if isinstance(next(parse_sources(self.files)), HumanEval):
            return self._code(candidates[0], context, longest)
        return self._gaps(candidates[0], context, longest), []

    def _code(self, first: Candidate, context: int, longest: int) -> tuple[list[HeldOutGap], list[Problem]]:
        """The problems that fit, and the gaps that are cut into them."""
        every = [problem for source in parse_sources(self.files) for problem in code_problems(source)]
        tokenizer, vocabulary = first.prior.tokenizer, first.prior.vocabulary
        found = held_out_code(every, tokenizer, vocabulary, self.gaps, longest=context - longest, longest_gap=longest)
        if not found[0]:
            raise UserError(
                f"none of the {len(every)} problems of {source_names(self.files)} fits: {context - longest} tokens at "
                f"most, {longest} of them in the gap (raise longest, or take a model with a longer context)"
            )
        return found

    def _gaps(self, first: Candidate, context: int, longest: int) -> list[HeldOutGap]:
        """Gaps, or sentences, that are cut out of the files."""
        texts, tokenizer, vocabulary = documents(self.files, self.field), first.prior.tokenizer, first.prior.vocabulary
        if self.sentence is None:
            what, room = f"a gap of {self.gap_length} tokens", context - (longest - self.gap_length)
            corpus = in_passages(in_memory(texts, tokenizer), vocabulary, max(room, 4))
            items = held_out_gaps(corpus, vocabulary, self.gaps, self.gap_length, longest=room, seed=self.seed)
        else:
            what, room = f"{self.of} sentences, number {self.sentence} of at most {longest} tokens", context - longest
            which = self.gaps, self.sentence, self.of
            items = held_out_sentences(texts, tokenizer, vocabulary, *which, longest=room, longest_gap=longest)
        if not items:
            raise UserError(f"no text of {source_names(self.files)} has room for {what}")
        return items

    def _about(self, effort: Mapping[str, Any], solutions: str | None) -> dict[str, Any]:
        """What was measured on, in words; `solutions` are the gaps of code."""
        source = ", ".join(Path(source_name(file)).name for file in self.files) or f"the world {self.world}"
        several = f"{self.places} x " if self.places > 1 else ""
        gaps = f"{several}{self.gap_length} tokens each"
        if self.sentence is not None:
            gaps = f"sentence {self.sentence} of {self.of}"
        about = {
            "cut": gaps if solutions is None else solutions,
            "threads": torch.get_num_threads(),
            "device": self.device,
            "dtype": self.dtype,
        }
        return {"on": source, **effort, **about}


def _passed(problems: Sequence[Problem], fills: Sequence[str]) -> list[float]:
    """For each fill of a problem's gap, 1 if its program passes its test, else 0."""
    return [float(passes(problem.program(fill))) for problem, fill in zip(problems, fills, strict=True)]
