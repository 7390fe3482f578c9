"""Draws under hard constraints: their distribution is enumerated, and with their weights they are posterior samples."""

from __future__ import annotations

import itertools
import math
import re

import pytest
import torch

import textdiff as td
from textdiff.errors import UserError
from textdiff.evidence import Contains, Excludes, Length, Observed, Ordered, Regex
from textdiff.priors import DiffusionPrior
from textdiff.samplers import POLICIES, LogProbKind, by_name
from textdiff.worlds import table

LETTERS = "abc"


@pytest.fixture(scope="module")
def world():
    generator = torch.Generator().manual_seed(1)
    fills = [*itertools.product(LETTERS, repeat=2), *itertools.product(LETTERS, repeat=3)]
    fills += [(*fill, "x", *other) for fill in fills[:9] for other in fills[:9]]
    return table({f"x{''.join(fill)}y": float(torch.rand(1, generator=generator)) ** 2 + 0.01 for fill in fills})


def prior(world, policy="strided", steps=None):
    return DiffusionPrior(world, world.tokenizer, world.vocabulary, by_name(policy, steps))


def fills_of(template):
    lengths = {"x[gap:3]y": [3], "x[gap:2-3]y": [2, 3]}.get(template)
    if lengths is not None:
        return [("".join(fill),) for n in lengths for fill in itertools.product(LETTERS, repeat=n)]
    pairs = ["".join(fill) for fill in itertools.product(LETTERS, repeat=2)]
    return list(itertools.product(pairs, pairs))


def scores(posterior, fills):
    """Log-probabilities of fills, in one batch."""
    tokens = torch.cat([posterior._placed(fill) for fill in fills])
    return posterior.prior.score(posterior.canvas.repeat(len(fills)), tokens).log_q.tolist()


CASES = [
    ("x[gap:3]y", Regex("[ab]*c[abc]"), lambda fills: re.fullmatch("[ab]*c[abc]", fills[0])),
    ("x[gap:2-3]y", Regex("[ab]*c[abc]"), lambda fills: re.fullmatch("[ab]*c[abc]", fills[0])),
    ("x[gap:2-3]y", Length(characters=3) & Regex(".*b.*"), lambda fills: len(fills[0]) == 3 and "b" in fills[0]),
    (
        "x[gap:2]x[gap:2]y",
        Regex("xab?.*x.*[bc]y", gap=None),
        lambda f: re.fullmatch("xab?.*x.*[bc]y", f"x{f[0]}x{f[1]}y"),
    ),
    ("x[gap:2]x[gap:2]y", Regex("a.", 0) & Regex("[^a]+", 1), lambda f: f[0][0] == "a" and "a" not in f[1]),
]


@pytest.mark.parametrize(("template", "constraint", "allowed"), CASES)
@pytest.mark.parametrize("steps", [2, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (1, 4))])
def test_draws_follow_the_sampler_given_the_constraint(world, template, constraint, allowed, steps):
    """Enumerated: q sums to 1 over what is allowed; weighted draws have the sampler's own distribution, restricted."""
    free = prior(world, steps=steps)
    posterior = free.given(Observed(template) & constraint)
    q, target = {}, {}
    fills = fills_of(template)
    for fill, log_q, log_p in zip(fills, scores(posterior, fills), scores(free.given(template), fills), strict=True):
        if allowed(fill):
            q[fill], target[fill] = math.exp(log_q), math.exp(log_p)
        else:
            assert log_q == -math.inf
    assert sum(q.values()) == pytest.approx(1)
    evidence = sum(target.values())
    n = 2000
    drawn = posterior.sample(n, generator=0)
    counts, weighted = dict.fromkeys(q, 0.0), dict.fromkeys(q, 0.0)
    weights = drawn.log_weights.exp()
    for sample, weight in zip(drawn, weights.tolist(), strict=True):
        counts[sample.fills] += 1 / n
        weighted[sample.fills] += weight / n
    bar = 3 * sum(math.sqrt(p * (1 - p) / n) for p in q.values()) / 2  # three times what iid draws are off
    assert sum(abs(counts[f] - q[f]) for f in q) / 2 < bar
    assert sum(abs(weighted[f] - target[f]) for f in q) / 2 < bar * float(weights.max())
    spread = float(weights.std() / weights.mean()) / n**0.5
    assert math.exp(float(drawn.log_evidence)) == pytest.approx(evidence, rel=4 * spread + 1e-9)
    again = posterior.prior.score(posterior.canvas.repeat(n), drawn.tokens)
    assert torch.allclose(again.log_q, drawn.log_q) and torch.allclose(again.log_excess, drawn.log_weights)


OTHERS = [n for n in POLICIES if by_name(n).kind is not LogProbKind.NONE and n != "strided"]


@pytest.mark.parametrize("policy", ["strided", *(pytest.param(n, marks=pytest.mark.slow) for n in OTHERS)])
def test_with_one_token_per_step_it_is_the_posterior(world, policy):
    """A perfect denoiser's weighted draws, and particles, against brute force: total variation within noise."""
    n, template = 2000, "x[gap:2-3]y"
    steps = None if policy in ("entropy-bounded", "threshold", "left-to-right") else 3
    chosen = prior(world, policy, steps)
    posterior = chosen.given(Observed(template) & Regex("[ab]*c[abc]"))
    fills = fills_of(template)
    texts = {f[0]: math.exp(p) for f, p in zip(fills, scores(world.given(template), fills), strict=True)}
    texts = {fill: p for fill, p in texts.items() if re.fullmatch("[ab]*c[abc]", fill)}
    evidence = sum(texts.values())
    for method in (td.Importance(), td.SMC()):
        drawn = posterior.sample(n, method, generator=3)
        weights = (drawn.log_weights - drawn.log_weights.logsumexp(0)).exp()
        found = dict.fromkeys(texts, 0.0)
        for sample, weight in zip(drawn, weights.tolist(), strict=True):
            assert sample.fills[0] in found
            found[sample.fills[0]] += weight
        distance = sum(abs(found[fill] - p / evidence) for fill, p in texts.items()) / 2
        if policy in ("entropy-bounded", "threshold"):
            continue  # several tokens in a step: valid, and not the posterior
        assert distance < 0.08, (policy, method)  # iid draws: 0.03
        assert float(drawn.log_evidence) == pytest.approx(math.log(evidence), abs=0.1)


@pytest.mark.slow
def test_markov_chains_satisfy_constraints(world):
    posterior = prior(world, steps=3).given(Observed("x[gap:3]y") & Regex(".*c.*"))
    truth = {
        f[0]: math.exp(world.given("x[gap:3]y").log_prob(f).log_prob) for f in fills_of("x[gap:3]y") if "c" in f[0]
    }
    evidence = sum(truth.values())
    for method in (td.MetropolisHastings(sweeps=8), td.ParticleGibbs(particles=4, sweeps=2)):
        drawn = posterior.sample(1500, method, generator=0)
        found = [sample.fills[0] for sample in drawn]
        assert all("c" in fill for fill in found)
        assert sum(abs(found.count(f) / 1500 - p / evidence) for f, p in truth.items()) / 2 < 0.08


def test_another_target_is_reached_through_weights(world):
    """The exact joint as the target of a hasty proposal, given a constraint."""
    posterior = prior(world, steps=1).given(Observed("x[gap:3]y") & Regex("[ac]+"), target=world)
    exact = world.given("x[gap:3]y")
    allowed = [exact.log_prob(f).log_prob for f in fills_of("x[gap:3]y") if "b" not in f[0]]
    log_z = torch.tensor(allowed).logsumexp(0) + world.log_evidence(posterior.canvas)
    for method in (td.Importance(), td.SMC()):
        assert float(posterior.sample(4000, method, generator=0).log_evidence) == pytest.approx(float(log_z), abs=0.1)


@pytest.mark.parametrize("policy", [n for n in POLICIES if by_name(n).kind is LogProbKind.NONE])
def test_policies_without_a_density_are_refused(world, policy):
    posterior = prior(world, policy).given(Observed("x[gap:3]y") & Regex(".*c.*"))
    with pytest.raises(UserError, match="do not heed constraints"):
        posterior.sample(2)
    for method in (td.Importance(), td.SMC(), td.ParticleGibbs(), td.MetropolisHastings(), td.Rejection()):
        with pytest.raises(UserError, match=r"density|log-probability|function of the canvas"):
            posterior.sample(2, method)


def test_a_constraint_that_nothing_satisfies_is_refused_before_any_forward_pass(world):
    class Uncalled:
        device, context = world.device, None

        def log_probs(self, *_args, **_options):
            raise AssertionError("called")

    uncalled = DiffusionPrior(Uncalled(), world.tokenizer, world.vocabulary)
    with pytest.raises(UserError, match=r"no fill of the gaps satisfies .*the pattern 'd.*'; there is room for 2 to 3"):
        uncalled.given(Observed("x[gap:2-3]y") & Regex("d.*"))
    with pytest.raises(UserError, match="about gap 2, but there are 1"):
        uncalled.given(Observed("x[gap:3]y") & Regex("a", gap=2))
    with pytest.raises(UserError, match="no regular expression"):
        uncalled.given(Observed("x[gap:3]y") & Regex("(a"))
    uncalled.given(Observed("x[gap:2-3]y") & Regex("[ab]{3}"))


def test_greedy_fills_stay_inside(world):
    drawn = (
        prior(world, steps=3)
        .given(Observed("x[gap:3]y") & Regex(".*cc"))
        .sample(3, td.Conditioning(td.Tempering(temperature=0.2)), generator=0)
    )
    assert all(sample.fills[0].endswith("cc") for sample in drawn)
    with pytest.raises(UserError, match="raise top_p or top_k"):
        prior(world, steps=3).given(Observed("x[gap:3]y") & Regex("[abc]{3}") & Regex(".*cc")).sample(
            3, td.Conditioning(td.Tempering(top_k=1)), generator=0
        )


def test_rules_about_words():
    from textdiff.worlds import grammar

    world = grammar()
    chosen = DiffusionPrior(world, world.tokenizer, world.vocabulary, by_name("left-to-right", None))
    template = "Lily found a ball. [gap:6-24] Lily smiled."
    for constraint, holds in (
        (Contains(["mom", "very happy"]), lambda text: re.search(r"\bmom\b", text) and "very happy" in text),
        (Excludes("looked"), lambda text: not re.search(r"\blooked\b", text)),
        (Ordered(["mom", "was"]), lambda text: re.search(r"\bmom\b.*\bwas\b", text)),
        (Length(words=(9, 10)), lambda text: 9 <= len(text.split()) <= 10),
        (Length(tokens=10), lambda text: True),
        (Contains("smiled", gap=None) & Excludes("dad"), lambda text: not re.search(r"\bdad\b", text)),
    ):
        drawn = chosen.given(Observed(template) & constraint).sample(60, td.SMC(), generator=0)
        alive = (
            drawn.log_weights > -math.inf
        )  # a world rules texts out, which the product of its marginals does not see
        assert alive.sum() >= 5
        assert all(holds(sample.fills[0]) for sample, lives in zip(drawn, alive, strict=True) if lives), constraint
        if isinstance(constraint, Length) and constraint.tokens:
            assert ((drawn.tokens != world.vocabulary.null)[alive].sum(dim=1) == drawn.tokens.shape[1] - 14).all()
    with pytest.raises(UserError, match="none of them empty"):
        Contains([""])
    with pytest.raises(UserError, match="needs a bound"):
        Length()
    with pytest.raises(UserError, match="the least and the most"):
        Length(words=(5, 2))


WORDS = ["ball", "dog", "happy", "Lily", "boat", "red ball", "again"]


def random_constraint(rng):
    """A rule, and what it means in Python's own words."""
    kind = rng.integers(6)
    if kind == 0:
        pattern = "".join(
            rng.choice(["[a-z]", "[A-Z]", " ", "o", "x?", "(ab|c)*", "[^a-m]{1,3}", r"\d"], rng.integers(1, 5))
        )
        pattern = f"{pattern}[a-z .]*"
        return Regex(pattern), lambda fill: re.fullmatch(pattern, fill)
    chosen = list(rng.choice(WORDS, rng.integers(1, 3), replace=False))
    if kind == 1:
        return Contains(chosen), lambda fill: all(re.search(rf"\b{w}\b", fill) for w in chosen)
    if kind == 2:
        return Excludes(chosen), lambda fill: not any(re.search(rf"\b{w}\b", fill) for w in chosen)
    if kind == 3:
        return Ordered(chosen), lambda fill: re.search(r"\b.*\b".join(chosen), fill, re.DOTALL)
    least, more = int(rng.integers(0, 4)), int(rng.integers(1, 4))
    if kind == 4:
        return Length(words=(least, least + more)), lambda fill: least <= len(fill.split()) <= least + more
    return Length(characters=(4 * least, 4 * (least + more))), lambda fill: 4 * least <= len(fill) <= 4 * (least + more)


@pytest.mark.slow
def test_no_draw_of_ten_thousand_is_outside():
    """500 random pairs of constraints on 1 to 2 gaps, 20 draws of an untrained network each."""
    import numpy as np

    from tests.helpers.tiny import tiny

    network = tiny().with_policy("strided", 4)
    rng, drawn, refused = np.random.default_rng(0), 0, 0
    while drawn < 10_000:
        (first, holds), (second, also) = random_constraint(rng), random_constraint(rng)
        template = ["Lily saw[gap:2-12]. Tom ran.", "Tom [gap:0-16] happy. Lily lost[gap:6].", "She [gap:8]"][
            rng.integers(3)
        ]
        try:
            posterior = network.given(Observed(template) & first & second)
        except UserError as error:
            assert "no fill of the gaps satisfies" in str(error)
            refused += 1
            continue
        for fill in posterior.sample(20, generator=drawn):
            text = fill.fills[0]
            assert holds(text) and also(text), (first, second, text)
            drawn += 1
    assert refused < 500


def test_slots_that_are_surely_unused():
    """A null marginal of 1 leaves no token; the lengths that remain are drawn as if the slot were not there."""
    world = table({"xay": 1.0, "xby": 2.0, "xy": 3.0})
    posterior = prior(world).given(Observed("x[gap:0-3]y") & Regex("a?"))
    drawn = posterior.sample(400, generator=0)
    assert {sample.fills[0] for sample in drawn} == {"", "a"}
    assert torch.isfinite(drawn.log_q).all() and torch.isfinite(drawn.log_weights).all()
    share = float(drawn.weights[[sample.fills[0] == "a" for sample in drawn]].sum())
    assert share == pytest.approx(0.25, abs=0.09)  # four standard errors of 400 draws
