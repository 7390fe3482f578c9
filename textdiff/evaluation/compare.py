"""Comparison of any samplers on the same held-out gaps: likelihood, speed and text, with paired errors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from textdiff.data import HeldOutGap
from textdiff.errors import UserError
from textdiff.evaluation.candidate import Candidate
from textdiff.evaluation.comparison import CandidateResult, Cell, Comparison
from textdiff.evaluation.measurements import MEASURES, Effort, measured
from textdiff.evaluation.text_scores import TextScore
from textdiff.files import atomically
from textdiff.worlds import ProbabilisticAutomaton


def compare(
    candidates: Sequence[Candidate],
    items: Sequence[HeldOutGap],
    *,
    longest: int | None = None,
    fills: int = 16,
    timed: int = 5,
    seed: int = 0,
    truth: ProbabilisticAutomaton | None = None,
    scores: Sequence[TextScore] = (),
    works: Callable[[Sequence[str]], list[float]] | None = None,
    cells: str | Path | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Comparison:
    """Measure each candidate on the same gaps.

    - *Likelihood*, if it is exact: -log q of the true text, in nats per character, with the gap's length given and, a
      harder question, with any length from 1 to `longest`; the latter not for a prior that has no `null`.
    - *Text*: one fill of each gap, its length not given, compared with the true text; and `fills` of the first gaps
      compared with one another. A prior without `null` draws by the evidence at each length, `ByLength`, one gap in a
      text.
    - *Truth*, on the texts of a world: KL(q || p) to its exact posterior, in nats per gap, from `fills` draws of each
      gap of known length; an upper bound if log q is that of a larger space (`Resampled`, random orders).
    - *Speed*: seconds for one fill and for `fills` at once, medians over the first gaps after one to warm up, in this
      process, length given; and the peak memory of a call beyond what the process held before it.
    - Any further score of the text: a function of fills and true texts, see `textdiff.evaluation.BertScore`.

    Args:
        candidates: in the order of the tables; differences are to the first.
        items: texts with gaps of known length, see `textdiff.data.held_out_gaps`.
        longest: tokens in a gap of unknown length, at most; by default twice the longest gap.
        fills: drawn at once.
        timed: gaps on which speed and variety are measured.
        seed: of the fills; gap i draws from `seed + i`.
        truth: the world that generated the texts.
        scores: further scores of the text.
        works: whether the fills of all gaps, exactly as drawn, do what they should (1 or 0): `pass@1`.
        cells: folder in which each finished measurement is kept; an interrupted comparison goes on from there.
        progress: called with the name of what is measured next.

    Raises:
        UserError: nothing to compare, candidates of one name or of two tokenizers, or a gap of unknown length.
    """
    _check(candidates, items)
    longest = 2 * max(int(canvas.maximum.max()) for canvas, _ in items) if longest is None else longest
    effort = Effort(longest, fills, timed, seed)
    folder = None if cells is None else Path(cells)
    data = hashlib.sha256(json.dumps([[t.tolist(), c.gap.tolist()] for c, t in items]).encode()).hexdigest()[:16]
    results = []
    for candidate in candidates:
        found = {}
        for measure in MEASURES:
            if measure == "truth" and truth is None:
                continue
            progress(f"{candidate.name}: {measure}")
            key = _key(candidate, data, measure, effort, truth)
            try:
                measurement = partial(measured, measure, candidate, items, effort, truth)
                found[measure] = _kept(folder, key, measurement)
            except UserError as error:
                raise UserError(f"{candidate.name}: {error}") from error
        texts, values = found["text"].texts, found["text"].values
        for score in scores:
            progress(f"{candidate.name}: {score.name}")
            values[score.name] = score(texts["fills"], texts["truths"])
        if works is not None:
            progress(f"{candidate.name}: pass@1")
            values["pass@1"] = works(texts["written"])
        characters = [int(item.characters(candidate.prior.vocabulary)) for item in items]
        results.append(CandidateResult(candidate.name, candidate.prior.label, characters, found))
    return Comparison(tuple(results), {"gaps": len(items), **asdict(effort)})


def _check(candidates: Sequence[Candidate], items: Sequence[HeldOutGap]) -> None:
    """Raise a `UserError` unless the candidates can be compared on these items."""
    if not candidates or not items:
        raise UserError(f"{len(candidates)} candidates and {len(items)} gaps: give at least one of each")
    names = [candidate.name for candidate in candidates]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"two candidates are called {min(twice)!r}: give each a name of its own")
    words = candidates[0].prior.tokenizer.get_vocab()
    if strangers := [candidate.name for candidate in candidates if candidate.prior.tokenizer.get_vocab() != words]:
        raise UserError(
            f"{strangers[0]!r} has another tokenizer than {names[0]!r}: gaps are token ids, which it reads otherwise"
        )
    for canvas, _ in items:
        if len(canvas) != 1 or not canvas.minimum.numel() or not torch.equal(canvas.minimum, canvas.maximum):
            raise UserError("an item is a canvas of one row with gaps of known length, and its true text")


def _key(candidate: Candidate, data: str, measure: str, effort: Effort, truth: ProbabilisticAutomaton | None) -> str:
    """A hash of all that a measurement depends on; `data` is that of the items."""
    needed = {name: getattr(effort, name) for name in MEASURES[measure]}
    extra = {"speed": torch.get_num_threads(), "truth": truth and truth.name}.get(measure)
    key = [candidate.fingerprint, data, measure, needed, extra]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]


def _kept(folder: Path | None, key: str, measure: Callable[[], Cell]) -> Cell:
    """A measurement from its file, if there is one; otherwise it is made and kept."""
    path = None if folder is None else folder / key
    if path is not None and path.is_file():
        return Cell(**json.loads(path.read_text(encoding="utf-8")))
    cell = measure()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomically(path) as file:
            file.write(json.dumps(asdict(cell)).encode())
    return cell
