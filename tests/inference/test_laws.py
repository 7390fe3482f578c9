"""The laws of inference: with an oracle denoiser every method draws from the exact posterior, on every kind of world.

Statistics are seeded; a test passes if the total variation of the weighted draws to the enumerated posterior is within
1.1 x the largest of 100 sets of as many iid draws (for weighted draws: as many as their effective sample size).
"""

import math

import pytest
import torch

from tests.worlds.test_worlds import WORLDS as SMALL
from tests.worlds.test_worlds import all_fills
from textdiff.errors import UserError
from textdiff.evidence import Likelihood, Observed
from textdiff.inference import (
    SMC,
    BlockGibbs,
    Exact,
    Importance,
    MetropolisHastings,
    ParticleGibbs,
    Rejection,
    Resampled,
    log_evidence_sandwich,
    multinomial,
    pareto_k,
    rank_uniformity,
    residual,
    stratified,
    systematic,
)
from textdiff.posterior import Conditioning
from textdiff.priors import DiffusionPrior
from textdiff.samplers import LeftToRight, LogProbKind, RandomOrder, SampledConfidence, Strided
from textdiff.worlds import arithmetic, grammar, hmm, table

DRAWS = 1000
CASES = {
    "table": ("table", "[gap:2]"),
    "hmm": ("hmm", "a[gap:2]b[gap:1]c"),
    "bigram": ("bigram", "a[gap:2]b[gap:1]."),
    "trigram": ("trigram", "a[gap:2]."),
    "grammar": ("grammar", "Lily found a[gap:1]. She looked at the[gap:1]. Lily smiled."),
    "arithmetic": ("arithmetic", "1[gap:2] - 0 = ?\n1[gap:2] =[gap:1],[gap:3] = 1\n1"),
}
LARGE = {"grammar": grammar, "arithmetic": lambda: arithmetic(operands=3, largest=1)}


def fine(law):
    """A perfect network at one token per step."""
    return DiffusionPrior(law, law.tokenizer, law.vocabulary, LeftToRight())


def coarse(law):
    """A perfect network that fills everything at once: wrong by the factorisation error."""
    return DiffusionPrior(law, law.tokenizer, law.vocabulary, Strided(1))


def enumerated(law, posterior, likelihood=None):
    """All fills that the world can write, and their exact posterior."""
    canvas = posterior.canvas
    if len(law.token.unique()) ** int(canvas.slots.sum()) < 10**6:
        rows = all_fills(law, canvas)
    else:  # the few that exact draws show, which are all of them if they have all the mass
        rows = law.sample(canvas.repeat(1000), torch.Generator().manual_seed(0)).tokens.unique(dim=0)
        assert float(law.log_prob(rows).logsumexp(0)) == pytest.approx(float(law.log_evidence(canvas)), abs=1e-9)
    mass = law.log_prob(rows)
    if likelihood is not None:
        mass = mass + likelihood(rows)
    rows, mass = rows[mass > -math.inf], mass[mass > -math.inf]
    return rows, mass.softmax(0), float(mass.logsumexp(0))


def noise(law, draws):
    """The largest total variation of 100 sets of iid draws."""
    generator = torch.Generator().manual_seed(0)
    sets = torch.multinomial(law, 100 * draws, replacement=True, generator=generator).view(100, draws)
    counts = torch.zeros(100, len(law), dtype=torch.float64).scatter_add(1, sets, torch.ones_like(sets).double())
    return float((counts / draws - law).abs().sum(dim=1).max() / 2)


def distance(found, rows, law):
    matches = (found.tokens[:, None] == rows).all(dim=2).double()
    seen = found.weights @ matches
    return float((seen - law).abs().sum() / 2) + float(1 - seen.sum()) / 2


def agrees(found, rows, law):
    assert distance(found, rows, law) < 1.1 * noise(law, max(10, int(found.ess))) + 1e-9


def test_the_statistic_sees_a_factorisation_error() -> None:
    law = SMALL["table"]()
    posterior = coarse(law).given("[gap:2]")
    rows, exact, _ = enumerated(law, posterior)
    assert distance(posterior.sample(DRAWS, generator=0), rows, exact) > 2 * noise(exact, DRAWS)


METHODS = {
    "exact": (Exact(), fine, True),
    "conditioning": (Conditioning(), fine, False),
    "rejection": (Rejection(), None, True),
    "importance": (Importance(), fine, True),
    "importance, all at once": (Importance(), coarse, True),
    "importance, tempered": (Importance(temperature=1.3), fine, True),
    "smc": (SMC(threshold=0.9), coarse, True),
    "smc, stratified": (SMC(0.9, stratified), fine, True),
    "smc, residual": (SMC(0.9, residual), coarse, True),
    "resampled importance": (Resampled(particles=32), fine, True),
    "resampled smc": (Resampled(SMC(0.9), particles=64), coarse, True),
    "particle gibbs": (ParticleGibbs(particles=8, sweeps=5), coarse, True),
    "metropolis-hastings": (MetropolisHastings(sweeps=16), coarse, True),
    "block gibbs": (BlockGibbs(sweeps=4, block=2), fine, False),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_draws_from_the_exact_posterior(name, case) -> None:
    method, make, aims = METHODS[name]
    law = LARGE.get(case, SMALL.get(case))()
    prior = law if make is None else make(law)
    posterior = prior.given(CASES[case][1], target=law if aims else None)
    rows, exact, evidence = enumerated(law, posterior)
    draws = (40 if case in LARGE else 200) if isinstance(method, Resampled) else 300 if case in LARGE else DRAWS
    found = posterior.sample(draws, method, generator=3)
    agrees(found, rows, exact)
    assert found.exactness and found.target and found.label
    if found.log_evidence is not None and aims:
        assert found.log_evidence == pytest.approx(evidence, abs=4 * found.log_evidence_error + 1e-6)


@pytest.mark.parametrize("method", [Importance(), SMC(0.9)], ids=["importance", "smc"])
def test_a_resampled_fill_says_how_far_it_is_from_the_posterior(method) -> None:
    """The mean of log q - log p is E[log Z - log Z-hat], which bounds KL(q || p) and falls as particles grow."""
    law = hmm(seed=0)
    posterior = coarse(law).given("abc[gap:6]cba", target=law)
    evidence, bounds = float(law.log_evidence(posterior.canvas)), []
    for particles in (1, 4, 16):
        found = posterior.sample(300, Resampled(method, particles), generator=0)
        assert found.kind is LogProbKind.GIVEN_ORDER and found.ess == pytest.approx(300)
        bounds.append(float((found.log_q - law.score(posterior.canvas.repeat(300), found.tokens).log_q).mean()))
        if particles == 1:
            torch.testing.assert_close(
                found.log_q, posterior.prior.score(posterior.canvas.repeat(300), found.tokens).log_q
            )
    deficits = torch.tensor(
        [evidence - posterior.sample(16, method, generator=seed).log_evidence for seed in range(300)]
    )
    assert bounds[0] > bounds[1] > bounds[2] > 0
    assert bounds[2] == pytest.approx(float(deficits.mean()), abs=6 * float(deficits.std()) / math.sqrt(300))


def test_mistakes_of_resampled() -> None:
    posterior = coarse(law := SMALL["hmm"]()).given("a[gap:2]b", target=law)
    with pytest.raises(UserError, match="does not estimate the evidence"):
        posterior.sample(2, Resampled(Conditioning()), generator=0)
    with pytest.raises(UserError, match="particles is 0"):
        posterior.sample(2, Resampled(particles=0), generator=0)


def test_a_bridge_leads_to_the_posterior_if_every_text_has_a_probability() -> None:
    law = hmm(states=3, symbols=4, seed=2, concentration=0.3)
    posterior = coarse(law).given("ab[gap:3]c", target=law)
    rows, exact, evidence = enumerated(law, posterior)
    found = posterior.sample(DRAWS, SMC(0.9, bridge=True), generator=3)
    agrees(found, rows, exact)
    assert found.log_evidence == pytest.approx(evidence, abs=4 * found.log_evidence_error)
    narrow = table({"abc.": 1.0, "aac.": 2.0})  # "ac." is no text of it
    assert not coarse(narrow).given("a[gap:1]c.", target=narrow).sample(8, SMC(bridge=True), generator=0).alive


@pytest.mark.parametrize(
    "method",
    [Importance(), SMC(0.9), Rejection(), MetropolisHastings(sweeps=24), ParticleGibbs(particles=4, sweeps=6)],
    ids=lambda m: type(m).__name__,
)
def test_a_likelihood_is_heeded(method) -> None:
    """Texts with many a's are likelier; the look-ahead counts those that are already there."""
    law = hmm(states=3, symbols=3, seed=1, concentration=0.5)
    a = law.tokenizer.get_vocab()["a"]

    def likelihood(tokens):
        return (tokens == a).sum(dim=1).double() - 5.0

    evidence = Observed("b[gap:3]c") & Likelihood(likelihood, lambda tokens, masked: likelihood(tokens))
    prior = fine(law)
    posterior = prior.given(evidence)
    rows, exact, total = enumerated(law, posterior, likelihood)
    found = posterior.sample(DRAWS, method, generator=1)
    agrees(found, rows, exact)
    if found.log_evidence is not None:
        conditional = total - float(law.log_evidence(posterior.canvas))
        assert found.log_evidence == pytest.approx(conditional, abs=4 * found.log_evidence_error)


def test_lengths_are_part_of_the_posterior() -> None:
    law = table({"ab.": 2.0, "aab.": 1.0, "aaab.": 1.0, "b.": 3.0})
    posterior = coarse(law).given("[gap:0-3]b.", target=law)
    rows, exact, evidence = enumerated(law, posterior)
    chain = MetropolisHastings(sweeps=64, independent=1.0)  # only these moves change a length
    for method in (Exact(), Importance(), SMC(0.9), chain, ParticleGibbs(8, 8)):
        found = posterior.sample(DRAWS, method, generator=0)
        agrees(found, rows, exact)
        if found.log_evidence is not None:
            assert found.log_evidence == pytest.approx(evidence, abs=4 * found.log_evidence_error + 1e-6)


def test_an_evidence_estimate_is_unbiased_and_knows_its_error() -> None:
    """Mean of 300 SMC estimates of Z within 4 standard errors; stated errors within a factor of 1.6 of the spread."""
    law = hmm(states=3, symbols=4, seed=2, concentration=0.3)
    posterior = coarse(law).given("ab[gap:5]c", target=law)
    truth = float(law.log_evidence(posterior.canvas))
    for method in (SMC(0.9), Importance()):
        found = [posterior.sample(32, method, generator=seed) for seed in range(300)]
        ratios = torch.tensor([math.exp(f.log_evidence - truth) for f in found])
        assert float(ratios.mean()) == pytest.approx(1, abs=4 * float(ratios.std()) / math.sqrt(300))
        stated = torch.tensor([f.log_evidence_error for f in found]).square().mean().sqrt()
        assert 1 / 1.6 < float(stated / ratios.std()) < 1.6


def test_a_world_steers_particles_better_than_weights_at_the_end() -> None:
    law = hmm(seed=0)
    text = "abc" + "[gap:8]" + "cba"
    posterior = DiffusionPrior(law, law.tokenizer, law.vocabulary, Strided(2)).given(text, target=law)
    truth = float(law.log_evidence(posterior.canvas))

    def squared_error(method):
        found = [posterior.sample(16, method, generator=seed).log_evidence for seed in range(60)]
        return sum((value - truth) ** 2 for value in found)

    assert squared_error(SMC(0.7)) < squared_error(SMC(0.0))


def test_the_autoregressive_twin_can_be_the_target(tmp_path) -> None:
    from tests.helpers.tiny import tiny

    proposal, twin = tiny(), tiny(causal=True)
    posterior = proposal.given("Lily lost her [gap:1-3]. She was happy again.", target=twin)
    found = posterior.sample(64, Importance(), generator=0)
    row = found.tokens[:1]
    expected = twin.log_prob(row) - proposal.score(posterior.canvas, row).log_q
    assert float(found.log_weights[0]) == pytest.approx(float(expected.detach()), abs=1e-4)
    steered = posterior.sample(64, SMC(0.5), generator=0)
    assert steered.alive and steered.log_evidence == pytest.approx(found.log_evidence, abs=6)
    assert (steered.nfe > proposal.given("Lily lost her [gap:1-3]. She was happy again.").sample(2).nfe.max()).all()


def test_particles_that_all_die_are_a_result() -> None:
    law = hmm(states=3, symbols=3)
    nothing = Observed("a[gap:3]b") & Likelihood(lambda tokens: torch.full((len(tokens),), -math.inf))
    for method in (Importance(), SMC()):
        found = fine(law).given(nothing).sample(8, method, generator=0)
        assert not found.alive and found.ess == 0 and found.log_evidence == -math.inf
        assert "ess 0.0" in str(found) or str(found)
        with pytest.raises(UserError, match="nothing to resample"):
            found.resample()


def test_resampling_keeps_the_distribution() -> None:
    law = SMALL["hmm"]()
    posterior = coarse(law).given("a[gap:3]b", target=law)
    rows, exact, _ = enumerated(law, posterior)
    equal = posterior.sample(4000, Importance(), generator=0).resample(2000, generator=1)
    assert equal.ess == pytest.approx(2000) and equal.log_evidence is None
    agrees(equal, rows, exact)


@pytest.mark.parametrize("scheme", [multinomial, stratified, systematic, residual])
def test_resampling_schemes_are_unbiased(scheme) -> None:
    """Mean copies over 4,000 calls within 5 standard errors of n w."""
    weights = torch.tensor([0.5, 0.0, 0.3, 0.15, 0.05], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    copies = torch.stack([scheme(weights, generator).bincount(minlength=5) for _ in range(4000)]).double()
    error = copies.std(dim=0) / math.sqrt(4000)
    assert ((copies.mean(dim=0) - 5 * weights).abs() <= 5 * error + 1e-12).all()
    assert (copies.sum(dim=1) == 5).all()


def test_the_sandwich_holds_the_log_evidence() -> None:
    law = hmm(seed=0)
    whole = law.sample(law.given("[gap:16]").canvas.repeat(20), torch.Generator().manual_seed(0)).tokens
    prior = DiffusionPrior(law, law.tokenizer, law.vocabulary, Strided(3))
    held = 0
    for i, row in enumerate(whole):
        canvas = law.given("abcd[gap:8]abcd").canvas
        tokens = row[None].clone()
        tokens[:, 5:13] = law.vocabulary.mask
        canvas = type(canvas).of(tokens, law.vocabulary.mask)
        posterior = prior.given(canvas, target=law)
        bounds = log_evidence_sandwich(posterior, row[None], proposals=16, repeats=8, generator=i)
        assert bounds.lower <= bounds.upper + 3 * (bounds.lower_error + bounds.upper_error)
        held += bounds.brackets(float(law.log_evidence(canvas)))
    assert held >= 18


def test_ranks_of_calibrated_draws_are_uniform_and_others_are_not() -> None:
    generator = torch.Generator().manual_seed(0)
    good = torch.randint(0, 20, (500,), generator=generator)
    assert rank_uniformity(good, 19) > 0.01
    assert rank_uniformity((good * 0.7).long(), 19) < 1e-6


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_pareto_k_finds_the_shape_of_the_tail(k) -> None:
    """20,000 draws of a generalised Pareto law with shape k: within 0.12."""
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = 1 + ((1 - u) ** -k - 1) / k
    assert pareto_k(weights.log()) == pytest.approx(k, abs=0.12)
    assert pareto_k(torch.zeros(1000)) == -math.inf
    assert math.isnan(pareto_k(torch.zeros(10)))


def test_a_fill_is_scored_exactly_or_by_a_bound() -> None:
    law = hmm(states=3, symbols=3, seed=1, concentration=0.5)
    text = "a[gap:3]b"
    exact = law.given(text).log_prob("bca")
    assert exact.kind == "exact"
    by_policy = fine(law).given(text).log_prob("bca")
    assert by_policy.kind == "exact" and float(by_policy) == pytest.approx(float(exact))
    random = DiffusionPrior(law, law.tokenizer, law.vocabulary, RandomOrder())
    bound = random.given(text).log_prob("bca")
    assert bound.kind == "bound" and float(bound) == pytest.approx(float(exact), abs=1e-9)
    with pytest.raises(UserError, match="gap 1 takes 3"):
        law.given(text).log_prob("bc")
    with pytest.raises(UserError, match="one text for each gap"):
        law.given(text).log_prob(["bca", "a"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda law: fine(law).given("a[gap:2]b").sample(0), "n is 0"),
        (lambda law: law.given("a[gap:2]b").sample(4, SMC()), "fills a gap in steps"),
        (lambda law: fine(law).given("a[gap:2]b").sample(4, Exact()), "exact world as the target"),
        (lambda law: coarse(law).given("a[gap:2]b", target=law).sample(4, Rejection()), "give log_bound"),
        (
            lambda law: coarse(law).given("a[gap:2]b", target=law).sample(4, Rejection(log_bound=-50.0)),
            "above the bound",
        ),
        (
            lambda law: (
                DiffusionPrior(law, law.tokenizer, law.vocabulary, SampledConfidence())
                .given("a[gap:2]b", target=law)
                .sample(4, Importance())
            ),
            "no density",
        ),
        (
            lambda law: (
                DiffusionPrior(law, law.tokenizer, law.vocabulary, RandomOrder())
                .given("a[gap:2]b")
                .sample(4, MetropolisHastings())
            ),
            "function of the canvas",
        ),
        (lambda law: coarse(law).given("a[gap:2]b", target=law).sample(4, BlockGibbs()), "another target"),
        (lambda law: coarse(law).given("a[gap:2]b", target=grammar()), "different tokenizers"),
        (lambda law: fine(law).given(Likelihood(lambda t: t)), "fixes no text"),
        (
            lambda law: fine(law).given(Observed("a[gap:2]b") & Likelihood(lambda t: t)).sample(2, Importance()),
            "expected a tensor",
        ),
        (lambda law: fine(law).given(Observed("a[gap:2]b") & Observed("b[gap:2]b")), "contradict"),
        (lambda law: fine(law).given(Observed("a[gap:2]b") & Observed("a[gap:3]b")), "same length"),
        (
            lambda law: fine(law).given(Observed("a[gap:2]b") & Likelihood(lambda t: torch.zeros(len(t)))).sample(2),
            "plain conditioning",
        ),
        (lambda law: fine(law).given("a[gap:2]b").sample(2, ParticleGibbs(particles=1)), "2 particles"),
    ],
)
def test_mistakes_get_one_clear_line(make, message) -> None:
    with pytest.raises(UserError, match=message) as error:
        make(hmm(states=3, symbols=3))
    assert "\n" not in str(error.value)


def test_observations_unite() -> None:
    law = hmm(states=3, symbols=3)
    both = fine(law).given(Observed("a[gap:3]b") & Observed("a[gap:1]b[gap:1]b"))
    assert int(both.canvas.slots.sum()) == 2
