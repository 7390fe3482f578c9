"""Inference with autoregressive proposals: the posterior under a causal joint, by enumeration of the fills."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from tests.helpers.causal_canvases import CANVASES, canvas_of
from tests.helpers.laws import fills
from tests.helpers.networks import CONTENT, network, vocabulary
from tests.helpers.worlds import agrees
from textdiff.errors import UserError
from textdiff.inference import SMC, Beam, BestOf, Importance, MetropolisHastings, ParticleGibbs
from textdiff.priors import AutoregressivePrior, FillInMiddlePrior
from textdiff.samplers import Tempering

VOCABULARY = vocabulary()


def gentle(**changes):
    """A network whose distributions are not too far from one another, so that chains mix."""
    net = network(causal=True, **changes)
    with torch.no_grad():
        net.norm.weight.mul_(0.2)
    return net


AUTOREGRESSIVE = AutoregressivePrior(gentle(), None, VOCABULARY)
FIM = FillInMiddlePrior(gentle(fill_in_middle=True), None, VOCABULARY)
DRAWS = 500


class NoTokenizer:
    """Stands for the tokenizer of the two, which is not asked for more."""

    @staticmethod
    def get_vocab():
        return {}


@pytest.fixture(autouse=True)
def tokenizers():
    for prior in (AUTOREGRESSIVE, FIM):
        object.__setattr__(prior, "tokenizer", NoTokenizer())


@pytest.mark.parametrize("proposal", [AUTOREGRESSIVE, FIM], ids=["prefix", "fim"])
@pytest.mark.parametrize("name", ["known length", "unknown length"])
@pytest.mark.parametrize(
    "method",
    [
        Importance(),
        SMC(0.8),
        SMC(0.8, bridge=True),
        ParticleGibbs(particles=8, sweeps=8),
        MetropolisHastings(sweeps=24, independent=0.75),
    ],
    ids=["importance", "smc", "smc over a bridge", "particle gibbs", "metropolis-hastings"],
)
def test_methods_find_the_posterior_under_the_joint(proposal, name, method):
    canvas = CANVASES[name]
    rows = fills(canvas, VOCABULARY)
    rows = rows[proposal.score(canvas.repeat(len(rows)), rows).log_q > -torch.inf]
    mass = AUTOREGRESSIVE.log_prob(rows).detach()
    found = proposal.given(canvas, target=AUTOREGRESSIVE).sample(DRAWS, method, generator=1)
    agrees(found, rows, mass.softmax(0))
    if found.log_evidence is not None:
        assert found.log_evidence == pytest.approx(float(mass.logsumexp(0)), abs=4 * found.log_evidence_error)


def test_particles_that_are_replaced_go_on_from_the_others_state():
    """After a resampling that keeps one ancestor alone, all particles are continuations of it."""
    canvas = CANVASES["known length"].repeat(64)
    for prior in (AUTOREGRESSIVE, FIM):
        calls = []

        def steer(progress, calls=calls):
            calls.append(progress.tokens.clone())
            return torch.full((64,), 5) if len(calls) == 2 else None

        drawn = prior.steered(canvas, torch.Generator().manual_seed(0), steer)
        assert (drawn.tokens[:, 3] == calls[1][5, 3]).all() and len(drawn.tokens[:, 4].unique()) > 2
        torch.testing.assert_close(drawn.log_q, prior.score(canvas, drawn.tokens).log_q)


def test_a_bridge_needs_a_joint():
    with pytest.raises(UserError, match="a bridge needs a target with an exact joint"):
        FIM.given(CANVASES["known length"]).sample(4, SMC(bridge=True))


@pytest.mark.parametrize(
    "prior, name", [(AUTOREGRESSIVE, "known length"), (FIM, "known length"), (FIM, "unknown length")]
)
def test_a_beam_that_is_wide_enough_finds_the_likeliest_fills(prior, name):
    canvas = CANVASES[name]
    rows = fills(canvas, VOCABULARY)
    best = prior.score(canvas.repeat(len(rows)), rows).log_q.detach().topk(20)
    found = prior.given(canvas).sample(20, Beam(width=200))
    torch.testing.assert_close(found.log_q, best.values)
    torch.testing.assert_close(prior.score(canvas.repeat(20), found.tokens).log_q.detach(), found.log_q)
    assert len(found.tokens.unique(dim=0)) == 20 and "no posterior samples" in found.exactness


@pytest.mark.parametrize("prior, name", [(AUTOREGRESSIVE, "known length"), (FIM, "unknown length")])
def test_a_beam_over_a_float32_network_adds_up_in_float64(prior, name):
    canvas = CANVASES[name]
    single = replace(prior, network=deepcopy(prior.network).float())
    found, expected = (some.given(canvas).sample(20, Beam(width=200)) for some in (single, prior))
    assert found.log_q.dtype == torch.float64
    torch.testing.assert_close(found.log_q, expected.log_q, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prior", [AUTOREGRESSIVE, FIM], ids=["prefix", "fim"])
def test_a_beam_of_one_is_greedy(prior):
    canvas = CANVASES["known length"]
    greedy = prior.sample(canvas, torch.Generator().manual_seed(0), tempering=Tempering(0))
    assert torch.equal(prior.given(canvas).sample(1, Beam(1)).tokens, greedy.tokens)


def test_fewer_fills_than_the_beam_is_wide_have_no_weight():
    canvas = canvas_of(0, None, 1)
    found = AUTOREGRESSIVE.given(canvas).sample(30, Beam(30))
    assert (found.weights > 0).sum() == CONTENT


def test_the_best_of_many_draws_is_the_best_of_all():
    canvas = CANVASES["known length"]
    rows = fills(canvas, VOCABULARY)
    rows = rows[(rows[:, 3:5] < CONTENT).all(dim=1)]
    weights = (AUTOREGRESSIVE.log_prob(rows) - AUTOREGRESSIVE.score(canvas.repeat(len(rows)), rows).log_q).detach()
    found = AUTOREGRESSIVE.given(canvas).sample(3, BestOf(3000), generator=0)
    matches = (found.tokens[:, None] == rows).all(dim=2).long().argmax(dim=1)
    assert (weights[matches] >= weights.topk(5).values[-1]).all()
    assert found.nfe.tolist() == [3 * 3000] * 3


def test_searches_that_make_no_sense_are_refused():
    posterior = AUTOREGRESSIVE.given(CANVASES["unknown length"])
    with pytest.raises(UserError, match="give exact lengths"):
        posterior.sample(1, Beam())
    with pytest.raises(UserError, match="n is 9 and the beam 8 wide"):
        posterior.sample(9, Beam())
    with pytest.raises(UserError, match="follows the sampler's own law"):
        FIM.given(CANVASES["known length"], target=AUTOREGRESSIVE).sample(1, Beam())
    with pytest.raises(UserError, match="draws is 0"):
        posterior.sample(1, BestOf(0))
