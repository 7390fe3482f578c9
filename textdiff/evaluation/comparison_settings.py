"""A comparison as a YAML describes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from textdiff.data import HUMANEVAL, Problem, documents, held_out_code, held_out_gaps, held_out_sentences, problems
from textdiff.data.corpus import Corpus, in_memory
from textdiff.data.corruption.fill_in_middle import MARKS
from textdiff.data.packing import cut
from textdiff.errors import UserError
from textdiff.evaluation.audit import world_items
from textdiff.evaluation.code_execution import passes
from textdiff.evaluation.compare import Candidate, Item, compare
from textdiff.evaluation.comparison import Comparison
from textdiff.evaluation.text_scores import TextScore
from textdiff.posterior import CausalJoint, ChoosesLayout, PosteriorSampler, SupportsExpert
from textdiff.pretrained import NetworkPrior, load
from textdiff.priors import DiffusionPrior
from textdiff.priors.fill_in_middle import Layout
from textdiff.worlds import ProbabilisticAutomaton, world


@dataclass(frozen=True)
class Entry:
    """A candidate by the names of its parts.

    Args:
        name: as the tables shall call it.
        checkpoint: folder, or the name of one that comes with textdiff; null: the world's perfect network.
        policy, steps: unmasking policy of a diffusion prior.
        joined: checkpoint of an autoregressive prior to join a diffusion prior with, see `DiffusionPrior.with_expert`.
        layout: of a fill-in-the-middle prior; "prefix": its network from the prefix alone.
        method: how posterior samples are drawn, by class; null: plain conditioning.
        target: checkpoint of the prior whose posterior is meant, or "world".
    """

    name: str
    checkpoint: str | None = None
    policy: str | None = None
    steps: int | None = None
    joined: str | None = None
    layout: Layout | Literal["prefix"] | None = None
    method: PosteriorSampler | None = None
    target: str | None = None


@dataclass(frozen=True)
class Settings:
    """What is compared on what, and where the answer goes.

    Args:
        candidates: differences are taken to the first.
        files: held-out text; the gaps are cut into it. What is too long for a model is read in passages. Or
            `humaneval:FILE.jsonl`, code infilling: the gaps are its canonical solutions, of at most `longest` tokens.
        field: column of jsonl, csv and parquet files that holds the text, or several, as in "sentence1+sentence2".
        world: or the name of a world, which writes texts and knows the truth.
        gaps, gap_length: number of gaps, and tokens in each.
        places: gaps in each text of a world; the figures are those of all gaps of a text together.
        sentence, of: cut this one out of the first `of` sentences of each text, instead of gaps of `gap_length`;
            sentence 4 of 5 is the protocol of story infilling (arXiv:2310.04363).
        longest: tokens in a gap of unknown length, at most; null: twice `gap_length`.
        fills: drawn at once.
        timed: gaps on which speed and variety are measured.
        seed: of gaps and fills.
        device, dtype: where the networks live, such as "cuda", and in which type their weights are.
        scores: further figures of the text, by class, such as `textdiff.evaluation.BertScore`.
        run_code: WARNING: RUNS CODE THAT MODELS WROTE, on this machine and as you. Of `humaneval:` files: puts a fill
            into each program, runs its tests and tells the share that passes (pass@1, any length up to `longest`). Each
            runs in a process with limits of time, memory, files and network, which is no sandbox against malice:
            `textdiff.evaluation.code_execution` says what it stops and what not.
        to: folder for compare.md, .json, .png and .html, and for what is kept between runs.
    """

    candidates: Sequence[Entry]
    files: Sequence[str] = ()
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
        """Compare, and write the files.

        Raises:
            UserError: the names do not fit together, or there is no text with room for such gaps.
        """
        if (self.world is None) == (not self.files):
            raise UserError("name what to compare on: either files of held-out text, or a world")
        if self.sentence is not None and (self.world is not None or not 1 < self.sentence <= self.of):
            raise UserError(f"sentence is {self.sentence} of {self.of}: expected 2 to {self.of}, and files, no world")
        if self.gaps < 1 or self.gap_length < 1 or self.fills < 2 or self.timed < 1:
            raise UserError(
                f"gaps {self.gaps}, gap_length {self.gap_length} and timed {self.timed} must be at least 1, "
                f"fills {self.fills} at least 2"
            )
        code = [file for file in self.files if file.startswith(HUMANEVAL)]
        if code and (len(code) < len(self.files) or self.sentence is not None):
            raise UserError(f"{code[0]!r} has gaps of its own: compare on it without other files and without sentence")
        if self.run_code and not code:
            raise UserError(f"run_code runs the tests of code infilling: give files as {HUMANEVAL}FILE.jsonl")
        if self.places < 1 or (self.places > 1 and self.world is None):
            raise UserError(f"places is {self.places}: expected 1, or more on a world")
        truth = None if self.world is None else world(self.world)
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
        for entry in self.candidates:
            own = prior(entry.checkpoint)
            if entry.policy is not None or entry.steps is not None:
                own = own.with_policy(entry.policy, entry.steps)
            if entry.joined is not None:
                other = prior(entry.joined)
                if not isinstance(own, SupportsExpert) or not isinstance(other, CausalJoint):
                    raise UserError(f"{entry.name}: a diffusion prior is joined with an autoregressive one, see joined")
                own = own.with_expert(other)
            if entry.layout is not None:
                if not isinstance(own, ChoosesLayout):
                    raise UserError(f"{entry.name}: only fill-in-the-middle has a layout, this is {own.label}")
                own = own.prefix_only() if entry.layout == "prefix" else own.with_layout(entry.layout)
            target = truth if entry.target == "world" else None if entry.target is None else prior(entry.target)
            candidates.append(Candidate(entry.name, own, entry.method, target))
        if not candidates:
            raise UserError("there are no candidates: name at least one")
        longest = self.longest or 2 * self.gap_length
        items, asked = self._items(candidates, truth, longest)
        folder = Path(self.to)
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
            works=partial(_work, asked) if self.run_code else None,
            cells=folder / "cells",
            progress=progress,
        )
        source = ", ".join(Path(file).name for file in self.files) or f"the world {self.world}"
        several = f"{self.places} x " if self.places > 1 else ""
        gaps = f"{several}{self.gap_length} tokens each"
        if self.sentence is not None:
            gaps = f"sentence {self.sentence} of {self.of}"
        if asked:
            gaps = f"canonical solutions of at most {longest} tokens"
        about = {"cut": gaps, "threads": torch.get_num_threads(), "device": self.device, "dtype": self.dtype}
        found = replace(found, about={"on": source, **found.about, **about})
        (folder / "compare.md").write_text(f"{found}\n", encoding="utf-8")
        (folder / "compare.json").write_text(found.json() + "\n", encoding="utf-8")
        (folder / "compare.html").write_text(found.html(), encoding="utf-8")
        found.figure().savefig(folder / "compare.png", dpi=120)
        return found

    def _items(
        self, candidates: Sequence[Candidate], truth: ProbabilisticAutomaton | None, longest: int
    ) -> tuple[list[Item], list[Problem]]:
        """The gaps; and the problems that they are, if they are of code."""
        first = candidates[0].prior
        context = min(c.prior.context or 512 for c in candidates) - MARKS
        if truth is not None:
            room = context - self.places * (longest - self.gap_length)
            return world_items(truth, self.gaps, self.gap_length, seed=self.seed, longest=room, places=self.places), []
        if self.files[0].startswith(HUMANEVAL):
            every = [problem for file in self.files for problem in problems(file)]
            found = held_out_code(every, first.tokenizer, first.vocabulary, self.gaps, context - longest, longest)
            if not found[0]:
                raise UserError(
                    f"none of the {len(every)} problems of {', '.join(self.files)} fits: {context - longest} tokens at "
                    f"most, {longest} of them in the gap (raise longest, or take a model with a longer context)"
                )
            return found
        texts = documents(self.files, self.field)
        if self.sentence is None:
            what, room = f"a gap of {self.gap_length} tokens", context - (longest - self.gap_length)
            whole = in_memory(texts, first.tokenizer)
            pieces = cut(whole.offsets, room)
            corpus = Corpus(whole.tokens, np.append(pieces[:, 0], pieces[-1:, 1]))
            items = held_out_gaps(corpus, first.vocabulary, self.gaps, self.gap_length, longest=room, seed=self.seed)
        else:
            what, room = f"{self.of} sentences, number {self.sentence} of at most {longest} tokens", context - longest
            items = held_out_sentences(
                texts, first.tokenizer, first.vocabulary, self.gaps, self.sentence, self.of, room, longest
            )
        if not items:
            raise UserError(f"no text of {', '.join(self.files)} has room for {what}")
        return items, []


def _work(asked: Sequence[Problem], fills: Sequence[str]) -> list[float]:
    """Of each fill of a problem's gap, 1 if its program passes its test, else 0."""
    return [float(passes(problem.program(fill))) for problem, fill in zip(asked, fills, strict=True)]
