"""One comparison of any samplers on the same held-out gaps: likelihood, speed and text, with paired errors."""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.functional.text import chrf_score

from textdiff.data.files import atomically
from textdiff.errors import UserError
from textdiff.evaluation.comparison import CandidateResult, Cell, Comparison
from textdiff.evaluation.memory import Peak, peak
from textdiff.evaluation.overlap import distinct, rouge_l, self_bleu, sentence_bleu, sentence_gleu
from textdiff.evaluation.text_scores import TextScore
from textdiff.inference import ByLength, Resampled
from textdiff.inference.by_length import GRID
from textdiff.models import fingerprint
from textdiff.posterior import Conditioning, Posterior, PosteriorSampler, Prior
from textdiff.samplers import LogProbKind
from textdiff.text import Canvas, Vocabulary
from textdiff.worlds import ProbabilisticAutomaton

Item = tuple[Canvas, Tensor]
"""A canvas of one row with gaps of known length, and the true text `[1, length]` that they were cut from."""

MEASURES: dict[str, tuple[str, ...]] = {
    "given": (),
    "open": ("longest",),
    "text": ("longest", "fills", "timed", "seed"),
    "speed": ("fills", "timed", "seed"),
    "truth": ("fills", "seed"),
}
"""What is measured, and the options on which it depends."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A way to fill gaps.

    Args:
        name: as the tables shall call it.
        prior: proposes fills, its policy included.
        method: how posterior samples are drawn; None: plain conditioning.
        target: whose posterior is meant; None: the prior's own.
    """

    name: str
    prior: Prior
    method: PosteriorSampler | None = None
    target: Prior | None = None

    def posterior(self, canvas: Canvas) -> Posterior:
        """Its posterior given a canvas."""
        return self.prior.given(canvas, target=self.target)

    @property
    def scores(self) -> bool:
        """Whether it knows the exact log-probability of a given fill."""
        return self.prior.kind is LogProbKind.EXACT and isinstance(self.method, Conditioning | None)

    @property
    def fingerprint(self) -> str:
        """A hash of what its figures depend on: weights, policy, method, target."""
        method = re.sub(r" at 0x[0-9a-f]+", "", repr(self.method))  # of functions: another one in each process
        parts = [self.prior.label, method, *map(_weights, (self.prior, self.target))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def compare(
    candidates: Sequence[Candidate],
    items: Sequence[Item],
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

    - *Likelihood*, where it is exact: -log q of the true text, in nats per character, with the gap's length given
      and, a harder question, with any length from 1 to `longest`; the latter not of a prior that has no `null`.
    - *Text*: one fill of each gap, its length not given, beside the true text; and `fills` of the first gaps beside
      one another. A prior without `null` draws by the evidence at each length, `ByLength`, one gap in a text.
    - *Truth*, on the texts of a world: KL(q || p) to its exact posterior, in nats per gap, from `fills` draws of each
      gap of known length; a bound from above where log q is that of a larger space (`Resampled`, random orders).
    - *Speed*: seconds for one fill and for `fills` at once, medians over the first gaps after one to warm up, in this
      process, length given; and the most memory that a call took beyond what the process held before it.
    - Whatever else is to be said about the text: a function of fills and true texts, see
      `textdiff.evaluation.BertScore`.

    Args:
        candidates: in the order of the tables; differences are taken to the first.
        items: gaps of known length with their true texts, see `textdiff.data.held_out_gaps`.
        longest: tokens in a gap of unknown length, at most; by default twice the longest gap.
        fills: drawn at once.
        timed: gaps on which speed and variety are measured.
        seed: of the fills; gap i draws from `seed + i`.
        truth: the world that wrote the texts.
        scores: further figures of the text.
        works: of the fills of all gaps, to the letter, whether they do what they should (1 or 0): `pass@1`.
        cells: folder in which each finished measurement is kept; an interrupted comparison goes on from there.
        progress: told what is measured next.

    Raises:
        UserError: nothing to compare, candidates of one name or of two tokenizers, or a gap of unknown length.
    """
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
    longest = 2 * max(int(canvas.maximum.max()) for canvas, _ in items) if longest is None else longest
    options = {"longest": longest, "fills": fills, "timed": timed, "seed": seed}
    data = hashlib.sha256(json.dumps([[t.tolist(), c.gap.tolist()] for c, t in items]).encode()).hexdigest()[:16]
    standings = []
    for candidate in candidates:
        found = {}
        for measure, needed in MEASURES.items():
            if measure == "truth" and truth is None:
                continue
            extra = {"speed": torch.get_num_threads(), "truth": truth and truth.name}.get(measure)
            key = [candidate.fingerprint, data, measure, {name: options[name] for name in needed}, extra]
            path = None if cells is None else Path(cells, hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24])
            progress(f"{candidate.name}: {measure}")
            try:
                found[measure] = _kept(path, partial(_measured, measure, candidate, items, options, truth))
            except UserError as error:
                raise UserError(f"{candidate.name}: {error}") from error
        texts = found["text"].texts
        for score in scores:
            progress(f"{candidate.name}: {score.name}")
            found["text"].values[score.name] = score(texts["fills"], texts["truths"])
        if works is not None:
            progress(f"{candidate.name}: pass@1")
            found["text"].values["pass@1"] = works(texts["written"])
        vocabulary = candidate.prior.vocabulary
        characters = [int((vocabulary.characters[tokens] * canvas.slots).sum()) for canvas, tokens in items]
        standings.append(CandidateResult(candidate.name, candidate.prior.label, characters, found))
    return Comparison(tuple(standings), {"gaps": len(items), **options})


def _kept(path: Path | None, measure: Callable[[], Cell]) -> Cell:
    """A measurement from its file, if there is one; else made, and kept."""
    if path is not None and path.is_file():
        return Cell(**json.loads(path.read_text(encoding="utf-8")))
    cell = measure()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomically(path) as file:
            file.write(json.dumps(asdict(cell)).encode())
    return cell


def _measured(
    measure: str,
    candidate: Candidate,
    items: Sequence[Item],
    options: dict[str, Any],
    truth: ProbabilisticAutomaton | None,
) -> Cell:
    seed, fills = options["seed"], options["fills"]
    if measure == "text":
        return _text(candidate, items, options)
    if measure == "speed":
        return _speed(candidate, items[: options["timed"] + 1], fills, seed)
    if measure == "truth":
        assert truth is not None
        return _truth(candidate, truth, items, fills, seed)
    if not candidate.scores:
        return Cell({})
    if measure == "open" and candidate.prior.vocabulary.null is None:
        return Cell({})
    if measure == "open":
        items = [opened(*item, options["longest"], candidate.prior.vocabulary) for item in items]
    return Cell({"nats": [_nats(candidate, *item) for item in items]})


def _truth(candidate: Candidate, truth: ProbabilisticAutomaton, items: Sequence[Item], fills: int, seed: int) -> Cell:
    """Estimates of KL(q || p) from equally weighted draws of q; empty where they have no density."""
    kl: list[float] = []
    exact = True
    for number, (canvas, _) in enumerate(items):
        found = candidate.posterior(canvas).sample(fills, candidate.method, generator=seed + number)
        if found.log_q is None or not isinstance(candidate.method, Conditioning | Resampled | None):
            return Cell({})
        alive = found.log_weights > -math.inf
        log_p = truth.score(canvas.repeat(fills), found.tokens).log_q
        assert log_p is not None
        kl.append(float((found.log_q - log_p).mean()) if alive.all() else math.inf)  # a dead set draws from nowhere
        exact &= found.kind is LogProbKind.EXACT
    return Cell({"kl": kl}, {"bound": float(not exact)})


@torch.no_grad()
def _nats(candidate: Candidate, canvas: Canvas, tokens: Tensor) -> float:
    prior = candidate.prior
    prior.check_canvas(canvas)
    log_q = prior.score(canvas.to(prior.device), tokens.to(prior.device)).log_q
    assert log_q is not None
    return -float(log_q)


def _text(candidate: Candidate, items: Sequence[Item], options: dict[str, Any]) -> Cell:
    """One fill of each gap and its scores; the variety of several fills of the first gaps."""
    values: dict[str, list[float]] = {"exact": [], "bleu": [], "gleu": [], "chrf": [], "rouge_l": [], "empty": []}
    fills: list[str] = []
    truths: list[str] = []
    written: list[str] = []
    variety: list[float] = []
    for number, (canvas, tokens) in enumerate(items):
        blank, true = opened(canvas, tokens, options["longest"], candidate.prior.vocabulary)
        posterior = candidate.posterior(blank)
        several = number < options["timed"]
        n, seed = options["fills"] if several else 1, options["seed"] + number
        if candidate.prior.vocabulary.null is None and candidate.method is None:
            found = posterior.sample(max(n, GRID), ByLength(), generator=seed)
            drawn = found.resample(n, generator=seed) if found.alive else found
        else:
            found = drawn = posterior.sample(n, candidate.method, generator=seed)
        if several:
            variety.append(self_bleu([" ".join(_joined(some.fills).split()) for some in drawn]))
        own = found.resample(1, generator=seed)[0].fills if found.alive else ("",)
        written.append("".join(own))
        fill = _joined(own)
        truth = _joined(posterior.read(true)[0].fills)
        fills.append(fill)
        truths.append(truth)
        values["exact"].append(float(fill == truth))
        values["empty"].append(float(not fill))
        for name, score in (("bleu", sentence_bleu), ("gleu", sentence_gleu), ("rouge_l", rouge_l)):
            values[name].append(score(fill, truth))
        values["chrf"].append(float(torch.as_tensor(chrf_score([fill], [[truth]]))))
    values["self_bleu"] = [score for score in variety if score == score]
    return Cell(values, {"distinct_2": distinct(fills)}, {"fills": fills, "truths": truths, "written": written})


def _joined(fills: Sequence[str]) -> str:
    """The fills of a text's gaps one after another."""
    return " ".join(fill.strip() for fill in fills).strip()


def _speed(candidate: Candidate, items: Sequence[Item], fills: int, seed: int) -> Cell:
    """Median seconds for a fill alone and among several, passes, and memory; the first gap warms up."""
    figures: dict[str, float] = {}
    for name, n in (("one", 1), ("many", fills)):
        seconds, passes = list[float](), list[float]()
        for number, (canvas, _) in enumerate(items):
            posterior = candidate.posterior(canvas)
            with peak(candidate.prior.device) if number == 0 else nullcontext(Peak()) as most:
                start = time.perf_counter()
                found = posterior.sample(n, candidate.method, generator=seed)
                found.tokens.cpu()  # no device is waited for before that
                seconds.append((time.perf_counter() - start) / n)
            passes.append(float(found.nfe.double().mean()))
            if most.bytes is not None:
                figures[f"megabytes_{name}"] = most.bytes / 1e6
        figures[f"seconds_{name}"] = statistics.median(seconds[1:] or seconds)
        figures["nfe"] = statistics.mean(passes)
    return Cell({}, figures)


def opened(canvas: Canvas, tokens: Tensor, longest: int, vocabulary: Vocabulary) -> Item:
    """The same gaps when their lengths are not told: 1 to `longest` tokens.

    Unused slots of the true text hold null; without such a token padding, which no denoiser looks at.

    Raises:
        UserError: a gap is longer than `longest`, or there is neither token.
    """
    size, null = int(canvas.maximum.max()), vocabulary.pad if vocabulary.null is None else vocabulary.null
    if size > longest or null is None:
        raise UserError(f"a gap of {size} tokens does not fit into {longest} slots, or the tokenizer has no null token")
    return canvas.with_open_gaps(longest), canvas.with_added_slots(tokens, longest, null)


def _weights(prior: Prior | None) -> str:
    """A hash of a prior's network, with its place and type; or a world's name."""
    if prior is None:
        return ""
    network = getattr(prior, "network", None)
    if not isinstance(network, nn.Module):
        return prior.label
    return f"{fingerprint(network)} {prior.device} {next(network.parameters()).dtype}"
