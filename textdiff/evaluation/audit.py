"""The amortization gap, measured: how far the fills of a sampler are from the posterior that it stands for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Generator, Tensor

from textdiff.errors import UserError
from textdiff.evaluation.audit_results import Audit, Estimate, Repair, Row, Weights
from textdiff.inference import Importance, pareto_k, rank_uniformity
from textdiff.posterior import PosteriorSampler, Prior, seeded
from textdiff.priors import DiffusionPrior
from textdiff.samplers import LogProbKind, UnmaskingPolicy
from textdiff.text import Canvas
from textdiff.worlds import ProbabilisticAutomaton
from textdiff.worlds.catalog import HMM_LENGTH

Item = tuple[Canvas, Tensor]
"""A canvas of one row, and the true text `[1, length]` that it was cut from."""

POLICIES: tuple[tuple[str, int | None], ...] = (
    *(("strided", steps) for steps in (12, 6, 4, 3, 2, 1)),
    ("dilated", None),
    *(("entropy", steps) for steps in (12, 6, 4, 3, 2)),
    *(("margin", steps) for steps in (6, 4)),
    *(("top-probability", steps) for steps in (6, 4)),
    *(("random", steps) for steps in (12, 6, 4)),
    ("entropy-bounded", None),
    ("threshold", None),
    ("sampled-confidence", 12),
)
ENUMERABLE = 4096
"""Most fills of a gap that are enumerated."""

EXACT = 16
"""Exact posterior draws of each item, for KL(p || q) and the sandwich."""

SPLIT = 8
"""Estimates of the log-evidence that the draws of an item are split into."""


def world_items(
    world: ProbabilisticAutomaton,
    count: int,
    gap: int = 12,
    length: int = HMM_LENGTH,
    seed: int = 0,
    longest: int = 512,
    places: int = 1,
    writer: ProbabilisticAutomaton | None = None,
) -> list[Item]:
    """Texts of a world with gaps of known length cut into each, at uniform places: evidence and an exact draw.

    Args:
        world: writes the texts.
        count: number of texts.
        gap: tokens in a gap.
        length: tokens in a text, where the world has no law of lengths; other texts that are too short are passed over.
        seed: of texts and places.
        longest: tokens that are kept of a text.
        places: gaps in a text, with a token or more between two.
        writer: another world that writes the evidence; the gaps are then drawn from the posterior of `world`, which
            may be the writer under a reward (`ProbabilisticAutomaton.tilted`).

    Raises:
        UserError: the world's texts are too short for such gaps.
    """
    if writer is not None:
        items = world_items(writer, count, gap, length, seed, longest, places)
        generator = seeded(seed + 1)
        return [(canvas, world.sample(canvas, generator).tokens) for canvas, _ in items]
    generator, v = seeded(seed), world.vocabulary
    assert v.bos is not None and v.eos is not None
    found: list[Item] = []
    for _ in range(100):
        if world.any_length:
            row = torch.tensor([[v.bos, *[v.mask] * length, v.eos]])
            texts = world.sample(Canvas.of(row, v.mask).repeat(count), generator).tokens
        else:
            texts = world.simulate(count, generator, longest)
        for text in texts:
            text = text[text != torch.tensor(v.pad)] if v.pad is not None else text
            free = len(text) - 2 - places * (gap + 1) + 1
            if free < 0 or len(found) == count:
                continue
            blank = text.clone()
            before = torch.randint(free + 1, (places,), generator=generator).sort().values
            for start in (1 + before + torch.arange(places) * (gap + 1)).tolist():
                blank[start : start + gap] = v.mask
            found.append((Canvas.of(blank[None], v.mask), text[None]))
        if len(found) == count:
            return found
        if not found:
            break
    raise UserError(f"the texts of {world.name} are too short for gaps of {gap} tokens: ask for shorter gaps")


def world_lengths(world: ProbabilisticAutomaton, count: int, most: int, beside: int = 24, seed: int = 0) -> list[Item]:
    """Texts of a world that gives no law of lengths, with one gap of 1 to `most` tokens, all lengths alike.

    Text before and after the gap has `beside` tokens at most, their number drawn apart from that of the gap: so the
    posterior of a gap's length, all lengths being alike before, is what `ProbabilisticAutomaton.length_log_probs` says.

    Raises:
        UserError: the world has a law of lengths.
    """
    if not world.any_length:
        raise UserError(f"the world {world.name} has a law of lengths: choose one that has none, such as hmm")
    generator, v, found = seeded(seed), world.vocabulary, []
    for _ in range(count):
        before, after = torch.randint(1, beside + 1, (2,), generator=generator).tolist()
        gap = int(torch.randint(1, most + 1, (1,), generator=generator))
        row = torch.tensor([[v.bos, *[v.mask] * (before + gap + after), v.eos]])
        text = world.sample(Canvas.of(row, v.mask), generator).tokens
        blank = text.clone()
        blank[:, 1 + before : 1 + before + gap] = v.mask
        found.append((Canvas.of(blank, v.mask), text))
    return found


@torch.no_grad()
def audit(
    prior: DiffusionPrior | None,
    world: ProbabilisticAutomaton,
    *,
    items: Sequence[Item] | None = None,
    policies: Sequence[tuple[UnmaskingPolicy | str, int | None]] = POLICIES,
    methods: Mapping[str, tuple[PosteriorSampler, tuple[str, int | None]]] | None = None,
    gaps: int = 100,
    gap_length: int = 12,
    draws: int = 64,
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> Audit:
    """Measure samplers against the exact posterior of a world.

    Args:
        prior: trained on the world's texts, with its tokenizer; None: a perfect network, so that what is left is the
            error of filling several slots at once.
        world: the truth.
        items: gaps and true texts; `gaps` of `gap_length` tokens if None, see `world_items`.
        policies: unmasking policies, or their names, and steps.
        methods: inference methods, each with the policy of its proposal, that draw towards the world's posterior.
        gaps, gap_length: number of items and tokens in a gap.
        draws: of each sampler for each item; K = draws for the effective sample size and log Z.
        seed: of everything.
        progress: told what is measured next.

    Raises:
        UserError: another tokenizer, too few draws, or a gap that does not fit.
    """
    if prior is None:
        prior = DiffusionPrior(world, world.tokenizer, world.vocabulary)
        name = "a perfect network"
    else:
        name = "the trained network"
    if prior.tokenizer.get_vocab() != world.tokenizer.get_vocab():
        raise UserError(f"the checkpoint has another tokenizer than the world {world.name}: it was not trained on it")
    if draws < 2 * SPLIT:
        raise UserError(f"draws is {draws}, expected at least {2 * SPLIT}")
    if items is None:
        items = world_items(world, gaps, gap_length, seed=seed, longest=prior.context or 512)
    for canvas, _ in items:
        prior.check_canvas(canvas)
    truth = _truth(world, items)
    rows = []
    for policy, steps in policies:
        law = prior.with_policy(policy, steps)
        progress(law.label)
        rows.append(_row(law, world, items, truth, draws, seed))
    repairs = []
    for label, (method, (policy, steps)) in (methods or {}).items():
        progress(label)
        repairs.append(_repair(label, method, prior.with_policy(policy, steps), world, items, truth, draws, seed))
    about = {
        "world": f"{world.name}, {name}",
        "items": len(items),
        "gap": int(items[0][0].slots.sum()),
        "draws": draws,
        "seed": seed,
    }
    return Audit(tuple(rows), tuple(repairs), about)


@dataclass(frozen=True)
class _Truth:
    """What the world knows: log p of the true fills and E_p log p, each `[items]`, and exact draws for each item."""

    log_p: Tensor
    mean_log_p: Tensor
    draws: tuple[Tensor, ...]


def _truth(world: ProbabilisticAutomaton, items: Sequence[Item], draws: int = 256) -> _Truth:
    log_p = torch.cat([_log_q(world.score(canvas, tokens).log_q) for canvas, tokens in items])
    generator = seeded(1)
    drawn = [world.sample(canvas.repeat(draws), generator) for canvas, _ in items]
    mean = torch.stack([_log_q(some.log_q).mean() for some in drawn])
    return _Truth(log_p, mean, tuple(some.tokens[:EXACT] for some in drawn))


def _row(
    law: DiffusionPrior,
    world: ProbabilisticAutomaton,
    items: Sequence[Item],
    truth: _Truth,
    draws: int,
    seed: int,
) -> Row:
    generator, policy = seeded(seed), law.label.partition(",")[0]
    log_q, log_p, tokens, nfe = _drawn(law, world, items, draws, generator)
    deficit = Estimate.of(truth.mean_log_p - log_p.mean(dim=1))
    if log_q is None:
        return Row(policy, law.label, nfe, deficit)
    log_w = log_p - log_q  # up to the constant log Z, which the exact posterior p contains
    pairs = zip(items, truth.draws, strict=True)
    true_w = torch.stack([_exact_weights(law, world, item, drawn, generator) for item, drawn in pairs])
    kl_qp, kl_pq, tv = -log_w.mean(dim=1), true_w.mean(dim=1), (1 - log_w.exp()).clamp(min=0).mean(dim=1)
    exact = law.kind is LogProbKind.EXACT and _enumerable(world, items)
    if exact:
        kl_qp, kl_pq, tv = _enumerated(law, world, items)
    ess = 1 / log_w.softmax(dim=1).square().sum(dim=1) / draws
    log_z = math.log(draws) - log_w.logsumexp(dim=1)
    parts = log_w.view(len(items), SPLIT, -1)
    size = parts.shape[2]
    lower = parts.logsumexp(dim=2) - math.log(size)
    swapped = torch.cat((true_w[:, :SPLIT, None], parts[..., 1:]), dim=2)
    upper = swapped.logsumexp(dim=2) - math.log(size)
    wide = 3 / math.sqrt(SPLIT)
    held = lower.mean(dim=1) - wide * lower.std(dim=1) <= 1e-9
    held &= upper.mean(dim=1) + wide * upper.std(dim=1) >= -1e-9
    return Row(
        policy,
        law.label,
        nfe,
        deficit,
        Estimate.of(kl_qp),
        Estimate.of(kl_pq),
        Estimate.of(tv),
        Estimate.of(ess),
        Estimate.of(log_z),
        Estimate.of(true_w.mean(dim=1) - log_w.mean(dim=1)),
        float(held.double().mean()),
        _calibration(items, tokens, log_p, truth.log_p, generator),
        exact,
    )


def _exact_weights(
    law: Prior, world: ProbabilisticAutomaton, item: Item, drawn: Tensor, generator: Generator
) -> Tensor:
    """log p - log q of exact posterior draws, `[draws]`."""
    canvas = item[0].repeat(len(drawn))
    scored = law.score(canvas.to(law.device), drawn.to(law.device), generator=generator)
    return _log_q(world.score(canvas, drawn).log_q) - _log_q(scored.log_q)


def _drawn(
    law: Prior, world: ProbabilisticAutomaton, items: Sequence[Item], draws: int, generator: Generator
) -> tuple[Tensor | None, Tensor, list[Tensor], float]:
    """Log q and log p of `draws` fills of each item, `[items, draws]`, the fills, and the mean forward passes."""
    log_q, log_p, tokens, nfe = [], [], [], []
    for canvas, _ in items:
        drawn = law.sample(canvas.repeat(draws).to(law.device), generator)
        found = drawn.tokens.cpu()
        log_q.append(None if drawn.log_q is None else drawn.log_q.cpu())
        log_p.append(_log_q(world.score(canvas.repeat(draws), found).log_q))
        tokens.append(found)
        nfe.append(drawn.nfe.double().mean())
    known = [scores for scores in log_q if scores is not None]
    return torch.stack(known) if known else None, torch.stack(log_p), tokens, float(torch.stack(nfe).mean())


def _enumerable(world: ProbabilisticAutomaton, items: Sequence[Item]) -> bool:
    """Whether every item has few enough fills."""
    kinds = len(world.token.unique())
    return all(kinds ** int(canvas.slots.sum()) <= ENUMERABLE for canvas, _ in items)


def _enumerated(law: Prior, world: ProbabilisticAutomaton, items: Sequence[Item]) -> tuple[Tensor, Tensor, Tensor]:
    """KL(q || p), KL(p || q) and total variation as sums over all fills, each `[items]`."""
    kinds, figures = world.token.unique().tolist(), []
    for canvas, _ in items:
        fills = torch.tensor(list(product(kinds, repeat=int(canvas.slots.sum()))))
        tokens = canvas.tokens.repeat(len(fills), 1)
        tokens[:, canvas.slots[0]] = fills
        many = canvas.repeat(len(fills))
        q, p = _log_q(law.score(many, tokens).log_q), _log_q(world.score(many, tokens).log_q)
        qp = (q.exp() * (q - p)).where(q > -math.inf, 0.0).sum()
        pq = (p.exp() * (p - q)).where(p > -math.inf, 0.0).sum()
        figures.append(torch.stack((qp, pq, (p.exp() - q.exp()).abs().sum() / 2)))
    qp, pq, tv = torch.stack(figures).unbind(1)
    return qp, pq, tv


def _calibration(
    items: Sequence[Item], tokens: Sequence[Tensor], log_p: Tensor, true_log_p: Tensor, generator: Generator
) -> float:
    """Simulation-based calibration: the least p-value of three statistics of the fill, times three."""
    draws = log_p.shape[1]

    def statistics(rows: Tensor, canvas: Canvas) -> tuple[Tensor, Tensor]:
        fill = rows[:, canvas.slots[0]]
        kinds = torch.tensor([len(set(row)) for row in fill.tolist()])
        return fill.double().mean(dim=1), kinds.double()

    ranks: list[list[float]] = [[], [], []]
    for i, (canvas, text) in enumerate(items):
        drawn, true = statistics(tokens[i], canvas), statistics(text, canvas)
        pairs = [(log_p[i], true_log_p[i]), (drawn[0], true[0][0]), (drawn[1], true[1][0])]
        for which, (values, truth) in enumerate(pairs):
            noise = torch.rand(draws + 1, generator=generator, dtype=torch.float64)
            near = (values - truth).abs() < 1e-9
            below = (~near & (values < truth)) | (near & (noise[1:] < noise[0]))
            ranks[which].append(int(below.sum()))
    bins = max(2, min(10, len(items) // 10))
    return 3 * min(rank_uniformity(torch.tensor(some), draws, bins) for some in ranks)


def _repair(
    label: str,
    method: PosteriorSampler,
    law: DiffusionPrior,
    world: ProbabilisticAutomaton,
    items: Sequence[Item],
    truth: _Truth,
    draws: int,
    seed: int,
) -> Repair:
    generator, means, nfe = seeded(seed), [], []
    start = time.perf_counter()
    for canvas, _ in items:
        found = law.given(canvas, target=world).sample(draws, method, generator=generator)
        log_p = _log_q(world.score(canvas.repeat(draws), found.tokens).log_q)
        means.append((found.weights * log_p).where(found.weights > 0, 0.0).sum())
        nfe.append(found.nfe.double().mean())
    seconds = (time.perf_counter() - start) / (draws * len(items))
    return Repair(label, float(torch.stack(nfe).mean()), seconds, Estimate.of(truth.mean_log_p - torch.stack(means)))


def _log_q(scores: Tensor | None) -> Tensor:
    assert scores is not None
    return scores.detach().cpu()


@torch.no_grad()
def audit_weights(
    prior: Prior,
    target: Prior,
    items: Sequence[Item],
    *,
    draws: int = 64,
    temperature: float = 1.0,
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> Weights:
    """Importance weights of a prior's fills towards the posterior under another prior's joint.

    Args:
        prior: proposes.
        target: has the joint.
        items: gaps with their true texts, which are not looked at.
        draws: fills of each gap.
        temperature: of the proposal.
        seed: of the draws.
        progress: told what is measured next.
    """
    generator, ess, k, evidence = seeded(seed), [], [], []
    for number, (canvas, _) in enumerate(items, 1):
        progress(f"gap {number} of {len(items)}")
        found = prior.given(canvas, target=target).sample(draws, Importance(temperature), generator=generator)
        ess.append(found.ess)
        k.append(pareto_k(found.log_weights))
        evidence.append(float(found.log_evidence or 0.0))
    about = {"proposal": prior.label, "target": target.label, "gaps": len(items), "draws": draws, "seed": seed}
    return Weights(tuple(ess), tuple(k), tuple(evidence), draws, about)
