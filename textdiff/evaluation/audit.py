"""The amortization gap: how far the fills of a sampler are from the posterior that it approximates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Generator, Tensor

from textdiff.data import HeldOutGap
from textdiff.errors import UserError
from textdiff.evaluation.audit_results import Audit, MethodAudit, PolicyAudit, WeightAudit
from textdiff.evaluation.statistics import Estimate
from textdiff.evaluation.world_items import world_items
from textdiff.evaluation.world_posteriors import WorldPosteriors, log_q_of
from textdiff.inference import Importance, pareto_k
from textdiff.inference.diagnostics import evidence_bounds
from textdiff.posterior import PosteriorSampler, Prior, seeded
from textdiff.priors import DiffusionPrior
from textdiff.samplers import LogProbKind, UnmaskingPolicy
from textdiff.worlds import ProbabilisticAutomaton

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
SPLIT = 8
"""Estimates of the log-evidence that the draws of an item are split into."""


@torch.no_grad()
def audit(
    prior: DiffusionPrior | None,
    world: ProbabilisticAutomaton,
    *,
    items: Sequence[HeldOutGap] | None = None,
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
        prior: trained on the world's texts, with its tokenizer; None: a perfect network, so that the only error left is
            that of filling several slots in one step.
        world: the truth.
        items: gaps and true texts; if None, `gaps` of `gap_length` tokens, see `world_items`.
        policies: unmasking policies, or their names, and steps.
        methods: inference methods, each with the policy of its proposal, that target the world's posterior.
        gaps, gap_length: number of items and tokens in a gap.
        draws: of each sampler for each item; also K, the draws behind the effective sample size and log Z.
        seed: of everything.
        progress: called with the name of what is measured next.

    Raises:
        UserError: another tokenizer, too few draws, or a gap that does not fit.
    """
    name = "a perfect network" if prior is None else "the trained network"
    if prior is None:
        prior = DiffusionPrior(world, world.tokenizer, world.vocabulary)
    if prior.tokenizer.get_vocab() != world.tokenizer.get_vocab():
        raise UserError(f"the checkpoint has another tokenizer than the world {world.name}: it was not trained on it")
    if draws < 2 * SPLIT:
        raise UserError(f"draws is {draws}, expected at least {2 * SPLIT}")
    if items is None:
        items = world_items(world, gaps, gap_length, seed=seed, longest=prior.context or 512)
    for canvas, _ in items:
        prior.check_canvas(canvas)
    posteriors = WorldPosteriors.of(world, items)
    rows = []
    for policy, steps in policies:
        sampler = prior.with_policy(policy, steps)
        progress(sampler.label)
        rows.append(_audit_policy(sampler, posteriors, draws, seeded(seed)))
    repairs = []
    for label, (method, (policy, steps)) in (methods or {}).items():
        progress(label)
        proposal = prior.with_policy(policy, steps)
        repairs.append(_audit_method(label, method, proposal, posteriors, draws, seeded(seed)))
    about = {
        "world": f"{world.name}, {name}",
        "items": len(items),
        "gap": int(items[0].canvas.slots.sum()),
        "draws": draws,
        "seed": seed,
    }
    return Audit(tuple(rows), tuple(repairs), about)


@torch.no_grad()
def audit_weights(
    prior: Prior,
    target: Prior,
    items: Sequence[HeldOutGap],
    *,
    draws: int = 64,
    temperature: float = 1.0,
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> WeightAudit:
    """Importance weights of a prior's fills towards the posterior under another prior's joint.

    Args:
        prior: the proposal.
        target: has the joint.
        items: gaps; their true texts are not used.
        draws: fills of each gap.
        temperature: of the proposal.
        seed: of the draws.
        progress: called with the name of what is measured next.
    """
    generator, ess, k, evidence = seeded(seed), [], [], []
    for number, (canvas, _) in enumerate(items, 1):
        progress(f"gap {number} of {len(items)}")
        found = prior.given(canvas, target=target).sample(draws, Importance(temperature), generator=generator)
        ess.append(found.ess)
        k.append(pareto_k(found.log_weights))
        evidence.append(float(found.log_evidence or 0.0))
    about = {"proposal": prior.label, "target": target.label, "gaps": len(items), "draws": draws, "seed": seed}
    return WeightAudit(tuple(ess), tuple(k), tuple(evidence), draws, about)


def _audit_policy(prior: DiffusionPrior, posteriors: WorldPosteriors, draws: int, generator: Generator) -> PolicyAudit:
    """Figures of the sampler of a prior, from `draws` fills of each item."""
    policy = prior.label.partition(",")[0]
    log_q, log_p, tokens, nfe = _drawn(prior, posteriors, draws, generator)
    deficit = Estimate.of(posteriors.mean_log_p - log_p.mean(dim=1))
    if log_q is None:
        return PolicyAudit(policy, prior.label, nfe, deficit)
    log_w = log_p - log_q  # the exact posterior p is normalised, so the true log-evidence of these weights is 0
    true_log_w = posteriors.log_weights(prior, generator)
    kl_qp, kl_pq, tv = -log_w.mean(dim=1), true_log_w.mean(dim=1), (1 - log_w.exp()).clamp(min=0).mean(dim=1)
    exact = prior.kind is LogProbKind.EXACT and posteriors.enumerable
    if exact:
        kl_qp, kl_pq, tv = posteriors.divergences(prior)
    ess = 1 / log_w.softmax(dim=1).square().sum(dim=1) / draws
    return PolicyAudit(
        policy,
        prior.label,
        nfe,
        deficit,
        kl_qp=Estimate.of(kl_qp),
        kl_pq=Estimate.of(kl_pq),
        tv=Estimate.of(tv),
        ess=Estimate.of(ess),
        log_z=Estimate.of(math.log(draws) - log_w.logsumexp(dim=1)),
        jeffreys=Estimate.of(true_log_w.mean(dim=1) - log_w.mean(dim=1)),
        bracketed=_bracketed(log_w, true_log_w),
        calibration=posteriors.calibration(tokens, log_p, generator),
        exact=exact,
    )


def _drawn(
    prior: Prior, posteriors: WorldPosteriors, draws: int, generator: Generator
) -> tuple[Tensor | None, Tensor, list[Tensor], float]:
    """Log q and log p of `draws` fills of each item, `[items, draws]`, the fills, and the mean forward passes."""
    log_q, log_p, tokens, nfe = [], [], [], []
    for canvas, _ in posteriors.items:
        many = canvas.repeat(draws)
        drawn = prior.sample(many.to(prior.device), generator)
        found = drawn.tokens.cpu()
        log_q.append(None if drawn.log_q is None else drawn.log_q.cpu())
        log_p.append(log_q_of(posteriors.world, many, found))
        tokens.append(found)
        nfe.append(drawn.nfe.double().mean())
    known = [scores for scores in log_q if scores is not None]
    return torch.stack(known) if known else None, torch.stack(log_p), tokens, float(torch.stack(nfe).mean())


def _bracketed(log_w: Tensor, true_log_w: Tensor) -> float:
    """Share of the items whose true log-evidence, 0, lies between its bounds, each 3 standard errors wide.

    Args:
        log_w: log-weights of draws, `[items, draws]`; they are split into `SPLIT` estimates.
        true_log_w: log-weights of exact posterior draws, `[items, SPLIT or more]`.
    """
    parts = log_w.view(len(log_w), SPLIT, -1)
    lower, upper = evidence_bounds(parts, true_log_w[:, :SPLIT])
    wide = 3 / math.sqrt(SPLIT)
    held = lower.mean(dim=1) - wide * lower.std(dim=1) <= 1e-9
    held &= upper.mean(dim=1) + wide * upper.std(dim=1) >= -1e-9
    return float(held.double().mean())


def _audit_method(
    label: str,
    method: PosteriorSampler,
    proposal: DiffusionPrior,
    posteriors: WorldPosteriors,
    draws: int,
    generator: Generator,
) -> MethodAudit:
    """Figures of a method that targets the world's posterior, from `draws` samples of each item."""
    means, nfe, world = [], [], posteriors.world
    start = time.perf_counter()
    for canvas, _ in posteriors.items:
        found = proposal.given(canvas, target=world).sample(draws, method, generator=generator)
        log_p = log_q_of(world, canvas.repeat(draws), found.tokens)
        means.append((found.weights * log_p).where(found.weights > 0, 0.0).sum())
        nfe.append(found.nfe.double().mean())
    seconds = (time.perf_counter() - start) / (draws * len(posteriors.items))
    deficit = Estimate.of(posteriors.mean_log_p - torch.stack(means))
    return MethodAudit(label, float(torch.stack(nfe).mean()), seconds, deficit)
