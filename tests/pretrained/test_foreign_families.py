"""Policies, methods, constraints, comparison and adapters on published models: a tiny instance of each family."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

import textdiff as td
from tests.helpers.foreign_models import CAUSAL, DIFFUSION, MASKED, checkpoint
from textdiff.amortization import SemiAmortized, Task, TrajectoryBalance
from textdiff.amortization.queries import Query
from textdiff.data import HeldOutGap
from textdiff.denoisers import nelbo_exact_k
from textdiff.evaluation.compare import compare
from textdiff.inference import BlockGibbs, ByLength, Resampled
from textdiff.models import LoRA, load_adapter, merge_adapter, save_adapter, use_adapter
from textdiff.pretrained import convert, load
from textdiff.samplers import POLICIES, LogProbKind, Strided

KINDS = (*DIFFUSION, *MASKED, *CAUSAL)
DEFAULT_KINDS = ("dream", "bert")
"""The default tests run on these; the others, which differ from them in a few parts, are slow tests."""
TEXT = "Lily lost [gap:3] ball."


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=[] if kind in DEFAULT_KINDS else [pytest.mark.slow]) for kind in KINDS],
)
def prior(request, tmp_path_factory):
    folder = checkpoint(request.param, tmp_path_factory.mktemp("foreign") / request.param)
    return (convert if request.param in CAUSAL else load)(folder).with_policy(Strided(3))


def test_every_policy_fills_and_scores(prior):
    for name in POLICIES:
        fills = prior.infill(TEXT, n=4, policy=name, seed=0)
        assert all(text.startswith("Lily lost ") and text.endswith(" ball.") for text in fills.texts)
        if fills.kind is LogProbKind.EXACT:
            posterior = prior.with_policy(name).given(TEXT)
            scores = torch.tensor([float(posterior.log_prob(tokens)) for tokens in fills.tokens], dtype=torch.float64)
            torch.testing.assert_close(fills.log_q, scores, atol=1e-4, rtol=1e-4)


def brief(texts):
    """A reward for short fills."""
    return [-0.1 * len(text) for text in texts]


METHODS = (
    td.Importance(),
    td.SMC(),
    td.ParticleGibbs(particles=3, sweeps=2),
    td.MetropolisHastings(sweeps=2),
    Resampled(td.Importance(), particles=2),
    SemiAmortized(steps=1, draws=2),
)


def test_every_method_accepts_a_reward(prior):
    posterior = prior.given(td.Observed(TEXT) & td.Reward(brief, gap=0))
    for method in METHODS:
        found = posterior.sample(4, method, generator=0)
        assert len(found) == 4 and found.alive
    assert prior.given(TEXT).sample(4, BlockGibbs(), generator=0).alive


def test_constraints_are_satisfied(prior):
    ends = td.Observed(TEXT) & td.Regex(r".*[a-z]") & td.Excludes(["dog", "w1"])
    assert all(some.fills[0][-1:].islower() for some in prior.infill(ends, n=6, seed=0))


def test_the_posterior_of_a_length(prior):
    posterior = prior.given("Lily lost [gap:1-4] ball.")
    found = posterior.sample(8, ByLength(), generator=0)
    shares = [found.diagnostics[f"length {length}"] for length in range(1, 5)]
    assert sum(shares) == pytest.approx(1) and min(shares) > 0
    assert all(text.startswith("Lily lost ") and text.endswith(" ball.") for text in found.texts)


def test_a_bound_on_the_likelihood_of_a_whole_text(prior):
    canvas = prior.given(TEXT).canvas
    tokens = prior.infill(TEXT, seed=0).tokens
    observed = torch.zeros_like(canvas.observed)
    observed[:, [0, -1]] = True
    bound = nelbo_exact_k(prior.network, tokens, observed, prior.vocabulary.mask, torch.Generator().manual_seed(0), 4)
    assert torch.isfinite(bound).all() and (bound > 0).all()


def test_it_can_be_compared(prior):
    canvas = prior.given(TEXT).canvas
    items = [HeldOutGap(canvas, prior.infill(TEXT, seed=seed).tokens) for seed in range(2)]
    table = compare([td.Candidate("foreign", prior)], items, fills=2, timed=1)
    (result,) = table.results
    assert all(math.isfinite(nats) for nats in result.cells["given"].values["nats"])
    assert bool(result.cells["open"].values) == (prior.vocabulary.null is not None)
    assert len(result.cells["text"].texts["fills"]) == 2


def test_adapters_learn_are_saved_and_merged(prior, tmp_path):
    learner = replace(prior, network=deepcopy(prior.network))
    LoRA(2).attach(learner.network)
    task = Task(learner, prior)
    learns = [weight for weight in learner.network.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(learns, lr=0.3)
    query = Query(torch.tensor([0]), prior.given(TEXT).canvas, None)
    with torch.no_grad():
        for name, weight in learner.network.named_parameters():
            if ".lora_B." in name:
                weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    loss, _ = TrajectoryBalance(4).loss(task, query, 0, torch.Generator().manual_seed(0))
    loss.backward()
    assert all(weight.grad is not None for weight in learns)
    optimizer.step()
    adapted = learner.infill(TEXT, n=4, seed=0).log_q
    save_adapter(learner.network, tmp_path, base="somewhere")
    other = replace(prior, network=deepcopy(prior.network))
    load_adapter(other.network, tmp_path)
    assert torch.equal(other.infill(TEXT, n=4, seed=0).log_q, adapted)
    use_adapter(other.network, None)
    assert torch.equal(other.infill(TEXT, n=4, seed=0).log_q, prior.infill(TEXT, n=4, seed=0).log_q)
    use_adapter(other.network)
    merge_adapter(other.network)
    torch.testing.assert_close(other.infill(TEXT, n=4, seed=0).log_q, adapted, atol=1e-3, rtol=1e-4)


def test_the_readme_says_how(tmp_path, monkeypatch):
    """What README.md shows of foreign models, with a tiny one for the large."""
    checkpoint("dream", tmp_path / "Dream")
    checkpoint("gpt2", tmp_path / "gpt2")
    monkeypatch.chdir(tmp_path)
    prior = td.load("Dream", device="cpu", dtype=torch.bfloat16)
    assert prior.infill("Lily lost [gap:4] ball.", n=4, seed=0).texts
    samples = prior.given("Lily lost [gap:2-4] ball.").sample(16, td.ByLength(), generator=0)
    assert samples.resample(4, generator=0).texts and "length 3" in samples.diagnostics
    td.save(prior, "mine")
    assert td.load("mine", dtype=torch.bfloat16).infill("Lily lost [gap:4] ball.", n=4, seed=0).texts
    td.save(td.convert("gpt2"), "start")
    assert td.load("start").infill("Lily lost [gap:1-4] ball.", seed=0).texts
