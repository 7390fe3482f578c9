"""Seconds for a fill: this library, its naive version and reference loops, on the same weights in one run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch

from textdiff.data import documents, held_out_gaps
from textdiff.data.corpus import in_memory
from textdiff.errors import UserError
from textdiff.evaluation.likelihoods import likelihoods
from textdiff.evaluation.random_networks import networks, random_canvas, vocabulary_of
from textdiff.evaluation.table import Table
from textdiff.evaluation.timing import Timed
from textdiff.evaluation.ways import end_to_end, overhead
from textdiff.models import Transformer
from textdiff.posterior import CausalJoint, Denoises
from textdiff.samplers import seed_generator
from textdiff.text import Canvas


@final
@dataclass(frozen=True)
class Case:
    """What is filled: `fills` fills of one gap of `gap` tokens in each of `texts` texts."""

    texts: int
    fills: int
    length: int
    vocabulary: int
    gap: int = 32

    def __str__(self) -> str:
        what = f"{self.texts} text{'s' * (self.texts > 1)} of {self.length} tokens, {self.gap} of them missing"
        return f"{what}; {self.fills} fill{'s' * (self.fills > 1)} each; vocabulary {self.vocabulary}"


@final
@dataclass(frozen=True)
class Bench:
    """Figures of a run: for each case the cost of each way, this library's first."""

    cases: tuple[tuple[str, tuple[Timed, ...]], ...]
    about: dict[str, Any]

    def __str__(self) -> str:
        """A table in Markdown for each case; ratios are to its first row."""
        return "\n\n".join(self._table(name, rows).markdown() for name, rows in self.cases)

    def json(self) -> str:
        """All figures as one JSON object."""
        cases = [[name, [row.record() for row in rows]] for name, rows in self.cases]
        return json.dumps({"cases": cases, "about": self.about}, indent=1)

    @staticmethod
    def _table(name: str, rows: Sequence[Timed]) -> Table:
        scored = any(row.likelihood is not None for row in rows)
        head = [name, "ms", "times the first", "passes", "MiB at the peak"]
        head += ["-log q, nats per character", "above the first"] * scored
        first, lines = rows[0].seconds, []
        for row in rows:
            cells = [row.way, "too long", "", "" if row.passes is None else f"{row.passes:g}"]
            if row.seconds is not None and first is not None:
                cells[1:3] = [f"{1000 * row.seconds:.3g}", f"{row.seconds / first:.3g}"]
            cells.append("" if row.memory is None else f"{row.memory / 2**20:.0f}")
            if scored:
                cells += ["", ""] if row.likelihood is None else row.likelihood.cells()
            lines.append(cells)
        return Table(head, lines)


def cases(
    texts: Sequence[int], fills: Sequence[int], length: Sequence[int], vocabulary: Sequence[int], gap: int
) -> Iterator[Case]:
    """Every combination."""
    for size in vocabulary:
        for long in length:
            for some in texts:
                for many in fills:
                    yield Case(some, many, long, size, gap)


def on_random_text(
    grid: Sequence[Case],
    overhead_at: int = 50_000,
    *,
    steps: Sequence[int] = (8,),
    reference_steps: Sequence[int] = (32,),
    rounds: int = 3,
    most: float = 60.0,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> Bench:
    """Measure on random text with random weights, on which seconds do not depend.

    Args:
        grid: what is filled.
        overhead_at: size of the vocabulary at which the cost of a step without the network is measured; 0: leave it
            out.
        steps, reference_steps, rounds, most: see `end_to_end`.
        device: where the networks live.
        seed: of texts and weights.
        progress: called with the name of what is measured next.
    """
    effort: dict[str, Any] = {"steps": steps, "reference_steps": reference_steps, "rounds": rounds, "most": most}
    found = []
    for case in grid:
        progress(str(case))
        seed_generator(torch.default_generator, seed)  # of the weights
        network, baseline = (some.to(device) for some in networks(case.vocabulary, case.length))  # type: ignore[arg-type]
        vocabulary = vocabulary_of(network)
        canvas = random_canvas(vocabulary, case.texts, case.length, case.gap, seed).to(device)
        rows = end_to_end(network, baseline, vocabulary.to(device), canvas, case.fills, **effort)
        found.append((f"{case}; for each fill", rows))
    if overhead_at:
        progress("the loops alone")
        name = f"the loops alone, 8 texts of 128 tokens, 32 of them missing, vocabulary {overhead_at}; for each step"
        found.append((name, overhead(overhead_at, rounds=rounds, device=device)))
    return Bench(tuple(found), _about(device, seed))


def on_held_out_text(
    prior: Denoises,
    baseline: CausalJoint,
    files: Sequence[str],
    *,
    texts: Sequence[int] = (1,),
    fills: Sequence[int] = (1, 16),
    gap: int = 32,
    gaps: int = 50,
    steps: Sequence[int] = (8,),
    reference_steps: Sequence[int] = (32,),
    rounds: int = 3,
    most: float = 60.0,
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> Bench:
    """Measure on gaps that are cut out of held-out text, and the likelihood of what was cut out.

    Args:
        prior, baseline: their networks are measured.
        files: see `textdiff.data.sources`.
        texts, fills: every combination is measured.
        gap: tokens in a gap.
        gaps: number of gaps for the likelihood.
        steps, reference_steps, rounds, most: see `end_to_end`.
        seed: of the gaps' places and of random orders.
        progress: called with the name of what is measured next.

    Raises:
        UserError: too few texts are long enough, or the two do not share a tokenizer.
    """
    if prior.tokenizer.get_vocab() != baseline.tokenizer.get_vocab():
        raise UserError("prior and baseline have different tokenizers: give two checkpoints that were trained together")
    network, vocabulary = prior.network, prior.vocabulary
    if not isinstance(network, Transformer):
        raise UserError("the loops are measured on networks of textdiff's own making: give a prior such as stories")
    corpus = in_memory(documents(files), prior.tokenizer)
    items = held_out_gaps(corpus, vocabulary, max(gaps, *texts), gap, longest=network.context, seed=seed)
    if not items:
        raise UserError(f"no text of {', '.join(files)} has room for a gap of {gap} tokens")
    progress(f"-log q of {gaps} gaps")
    passes = {"steps": steps, "reference_steps": reference_steps}
    of_text = likelihoods(network, baseline.network, vocabulary, items[:gaps], **passes)
    found = []
    for some in texts:
        assert vocabulary.pad is not None
        canvas = Canvas.stack([item.canvas for item in items[:some]], vocabulary.pad).to(network.device)
        for many in fills:
            case = Case(some, many, canvas.tokens.shape[1], vocabulary.size, gap)
            progress(str(case))
            rows = end_to_end(network, baseline.network, vocabulary, canvas, many, rounds=rounds, most=most, **passes)
            scored = tuple(replace(row, likelihood=of_text.get(row.way)) for row in rows)
            found.append((f"{case}; for each fill", scored))
    return Bench(tuple(found), _about(network.device, seed) | {"files": [Path(file).name for file in files]})


def _about(device: torch.device | str, seed: int) -> dict[str, Any]:
    return {"device": str(device), "threads": torch.get_num_threads(), "torch": torch.__version__, "seed": seed}
