"""How long a fill takes: this library, its naive version and the loops of others, on the same weights in one run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from textdiff.data import documents, held_out_gaps
from textdiff.data.corpus import in_memory
from textdiff.errors import UserError
from textdiff.evaluation.likelihoods import likelihoods
from textdiff.evaluation.timing import Case, Timed, end_to_end, networks, overhead, random_canvas, vocabulary_of
from textdiff.models import Transformer
from textdiff.posterior import CausalJoint, Denoises
from textdiff.text import Canvas


@dataclass(frozen=True)
class Bench:
    """Figures of a run: of each case what the ways take, the library's first."""

    cases: tuple[tuple[str, tuple[Timed, ...]], ...]
    about: dict[str, Any]

    def __str__(self) -> str:
        """A table in Markdown for each case; ratios are to its first row."""
        return "\n\n".join(self._table(name, rows) for name, rows in self.cases)

    def json(self) -> str:
        """All figures as one JSON object."""
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def _table(name: str, rows: Sequence[Timed]) -> str:
        told = any(row.likelihood is not None for row in rows)
        heads = [name, "ms", "times the first", "passes", "MiB at the peak"]
        heads += ["-log q, nats per character", "above the first"] * told
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        first = rows[0].seconds
        for row in rows:
            cells = [row.way, "too long", "", "" if row.passes is None else f"{row.passes:g}"]
            if row.seconds is not None and first is not None:
                cells[1:3] = [f"{1000 * row.seconds:.3g}", f"{row.seconds / first:.3g}"]
            cells.append("" if row.memory is None else f"{row.memory / 2**20:.0f}")
            if told and (known := row.likelihood) is None:
                cells += ["", ""]
            elif told:
                assert known is not None
                cells += [f"{known.nats:.3f} ± {known.error:.3f}", f"{known.above:+.3f} ± {known.above_error:.3f}"]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)


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
    """Measure on random text with random weights: seconds depend on no more.

    Args:
        grid: what is filled.
        overhead_at: size of the vocabulary for what a step costs beside the network; 0: leave that out.
        steps, rival_steps, rounds, most: see `end_to_end`.
        device: where.
        seed: of texts and weights.
        progress: told what is next.
    """
    found = []
    for case in grid:
        progress(str(case))
        torch.manual_seed(seed)  # of the weights
        network, twin = (some.to(device) for some in networks(case.vocabulary, case.length))  # type: ignore[arg-type]
        vocabulary = vocabulary_of(network)
        canvas = random_canvas(vocabulary, case.texts, case.length, case.gap, seed).to(device)
        rows = end_to_end(
            network,
            twin,
            vocabulary.to(device),
            canvas,
            case.fills,
            steps=steps,
            reference_steps=reference_steps,
            rounds=rounds,
            most=most,
        )
        found.append((f"{case}; for each fill", rows))
    if overhead_at:
        progress("the loops alone")
        name = f"the loops alone, 8 texts of 128 tokens, 32 of them missing, vocabulary {overhead_at}; for each step"
        found.append((name, overhead(overhead_at, rounds=rounds, device=device)))
    return Bench(tuple(found), _about(device, seed))


def on_held_out_text(
    prior: Denoises,
    twin: CausalJoint,
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
    """Measure on gaps that are cut out of held-out text, and how likely what stood there is.

    Args:
        prior, twin: their networks are measured.
        files: see `textdiff.data.sources`.
        texts, fills: every combination is measured.
        gap: tokens in a gap.
        gaps: over which -log q is taken.
        steps, rival_steps, rounds, most: see `end_to_end`.
        seed: of the gaps' places and of random orders.
        progress: told what is next.

    Raises:
        UserError: too few texts are long enough, or the two do not share a tokenizer.
    """
    if prior.tokenizer.get_vocab() != twin.tokenizer.get_vocab():
        raise UserError("prior and twin have different tokenizers: give two checkpoints that were trained together")
    network, vocabulary = prior.network, prior.vocabulary
    if not isinstance(network, Transformer):
        raise UserError("the loops are measured on networks of textdiff's own making: give a prior such as stories")
    corpus = in_memory(documents(files), prior.tokenizer)
    count = max(gaps, *texts)
    items = held_out_gaps(corpus, vocabulary, count, gap, longest=network.context, seed=seed)
    if not items:
        raise UserError(f"no text of {', '.join(files)} has room for a gap of {gap} tokens")
    progress(f"-log q of {gaps} gaps")
    of_text = likelihoods(network, twin.network, vocabulary, items[:gaps], steps=steps, reference_steps=reference_steps)
    found = []
    for some in texts:
        assert vocabulary.pad is not None
        canvas = Canvas.stack([item[0] for item in items[:some]], vocabulary.pad).to(network.device)
        for many in fills:
            case = Case(some, many, canvas.tokens.shape[1], vocabulary.size, gap)
            progress(str(case))
            rows = end_to_end(
                network,
                twin.network,
                vocabulary,
                canvas,
                many,
                steps=steps,
                reference_steps=reference_steps,
                rounds=rounds,
                most=most,
            )
            found.append(
                (f"{case}; for each fill", tuple(replace(row, likelihood=of_text.get(row.way)) for row in rows))
            )
    return Bench(tuple(found), _about(network.device, seed) | {"files": [Path(file).name for file in files]})


def _about(device: torch.device | str, seed: int) -> dict[str, Any]:
    return {"device": str(device), "threads": torch.get_num_threads(), "torch": torch.__version__, "seed": seed}
