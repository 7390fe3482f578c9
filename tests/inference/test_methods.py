"""Every method draws from the exact posterior of every kind of world, given a perfect denoiser.

Statistics are seeded; a test passes if the total variation of the weighted draws to the enumerated posterior is within
1.1 x the largest of 100 sets of as many iid draws (for weighted draws: as many as their effective sample size).
"""

import math

import pytest
import torch

from tests.helpers.worlds import WORLDS, agrees, coarse, distance, enumerated, fine, noise
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
    residual,
    stratified,
)
from textdiff.posterior import Conditioning
from textdiff.priors import DiffusionPrior
from textdiff.samplers import Strided
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


def test_the_statistic_sees_a_factorisation_error() -> None:
    world = WORLDS["table"]()
    posterior = coarse(world).given("[gap:2]")
    rows, exact, _ = enumerated(world, posterior)
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
    world = LARGE.get(case, WORLDS.get(case))()
    prior = world if make is None else make(world)
    posterior = prior.given(CASES[case][1], target=world if aims else None)
    rows, exact, evidence = enumerated(world, posterior)
    draws = (40 if case in LARGE else 200) if isinstance(method, Resampled) else 300 if case in LARGE else DRAWS
    found = posterior.sample(draws, method, generator=3)
    agrees(found, rows, exact)
    assert found.exactness and found.target and found.label
    if found.log_evidence is not None and aims:
        assert found.log_evidence == pytest.approx(evidence, abs=4 * found.log_evidence_error + 1e-6)


def test_a_bridge_leads_to_the_posterior_if_every_text_has_a_probability() -> None:
    world = hmm(states=3, symbols=4, seed=2, concentration=0.3)
    posterior = coarse(world).given("ab[gap:3]c", target=world)
    rows, exact, evidence = enumerated(world, posterior)
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
def test_a_likelihood_counts(method) -> None:
    """Texts with many a's are likelier; the look-ahead counts those that are already there."""
    world = hmm(states=3, symbols=3, seed=1, concentration=0.5)
    a = world.tokenizer.get_vocab()["a"]

    def likelihood(tokens):
        return (tokens == a).sum(dim=1).double() - 5.0

    evidence = Observed("b[gap:3]c") & Likelihood(likelihood, lambda tokens, masked: likelihood(tokens))
    prior = fine(world)
    posterior = prior.given(evidence)
    rows, exact, total = enumerated(world, posterior, likelihood)
    found = posterior.sample(DRAWS, method, generator=1)
    agrees(found, rows, exact)
    if found.log_evidence is not None:
        conditional = total - float(world.log_evidence(posterior.canvas))
        assert found.log_evidence == pytest.approx(conditional, abs=4 * found.log_evidence_error)


def test_lengths_are_part_of_the_posterior() -> None:
    world = table({"ab.": 2.0, "aab.": 1.0, "aaab.": 1.0, "b.": 3.0})
    posterior = coarse(world).given("[gap:0-3]b.", target=world)
    rows, exact, evidence = enumerated(world, posterior)
    chain = MetropolisHastings(sweeps=64, independent=1.0)  # only these moves change a length
    for method in (Exact(), Importance(), SMC(0.9), chain, ParticleGibbs(8, 8)):
        found = posterior.sample(DRAWS, method, generator=0)
        agrees(found, rows, exact)
        if found.log_evidence is not None:
            assert found.log_evidence == pytest.approx(evidence, abs=4 * found.log_evidence_error + 1e-6)


def test_an_evidence_estimate_is_unbiased_and_knows_its_error() -> None:
    """Mean of 300 SMC estimates of Z within 4 standard errors; stated errors within a factor of 1.6 of the spread."""
    world = hmm(states=3, symbols=4, seed=2, concentration=0.3)
    posterior = coarse(world).given("ab[gap:5]c", target=world)
    truth = float(world.log_evidence(posterior.canvas))
    for method in (SMC(0.9), Importance()):
        found = [posterior.sample(32, method, generator=seed) for seed in range(300)]
        ratios = torch.tensor([math.exp(f.log_evidence - truth) for f in found])
        assert float(ratios.mean()) == pytest.approx(1, abs=4 * float(ratios.std()) / math.sqrt(300))
        stated = torch.tensor([f.log_evidence_error for f in found]).square().mean().sqrt()
        assert 1 / 1.6 < float(stated / ratios.std()) < 1.6


def test_a_world_steers_particles_better_than_weights_at_the_end() -> None:
    world = hmm(seed=0)
    text = "abc" + "[gap:8]" + "cba"
    posterior = DiffusionPrior(world, world.tokenizer, world.vocabulary, Strided(2)).given(text, target=world)
    truth = float(world.log_evidence(posterior.canvas))

    def squared_error(method):
        found = [posterior.sample(16, method, generator=seed).log_evidence for seed in range(60)]
        return sum((value - truth) ** 2 for value in found)

    assert squared_error(SMC(0.7)) < squared_error(SMC(0.0))


def test_an_autoregressive_prior_can_be_the_target(tmp_path) -> None:
    from tests.helpers.tiny import tiny

    proposal, baseline = tiny(), tiny(causal=True)
    posterior = proposal.given("Lily lost her [gap:1-3]. She was happy again.", target=baseline)
    found = posterior.sample(64, Importance(), generator=0)
    row = found.tokens[:1]
    expected = baseline.log_prob(row) - proposal.score(posterior.canvas, row).log_q
    assert float(found.log_weights[0]) == pytest.approx(float(expected.detach()), abs=1e-4)
    steered = posterior.sample(64, SMC(0.5), generator=0)
    assert steered.alive and steered.log_evidence == pytest.approx(found.log_evidence, abs=6)
    assert (steered.nfe > proposal.given("Lily lost her [gap:1-3]. She was happy again.").sample(2).nfe.max()).all()
