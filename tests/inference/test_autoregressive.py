"""Inference with autoregressive proposals: the posterior under the twin's own joint, by enumeration of the fills."""

import pytest
import torch

from tests.inference.test_laws import agrees
from tests.models.networks import network, vocabulary
from tests.priors.test_autoregressive import CANVASES
from tests.samplers.laws import fills
from textdiff.errors import UserError
from textdiff.inference import SMC, Importance, MetropolisHastings, ParticleGibbs
from textdiff.priors import AutoregressivePrior, FillInMiddlePrior

VOCABULARY = vocabulary()


def gentle(**changes):
    """A network whose laws are not too far from one another, so that chains mix."""
    net = network(causal=True, **changes)
    with torch.no_grad():
        net.norm.weight.mul_(0.2)
    return net


TWIN = AutoregressivePrior(gentle(), None, VOCABULARY)
FIM = FillInMiddlePrior(gentle(fill_in_middle=True), None, VOCABULARY)
DRAWS = 500


class NoTokenizer:
    """Stands for the tokenizer of the two, which is not asked for more."""

    @staticmethod
    def get_vocab():
        return {}


@pytest.fixture(autouse=True)
def tokenizers():
    for prior in (TWIN, FIM):
        object.__setattr__(prior, "tokenizer", NoTokenizer())


@pytest.mark.parametrize("proposal", [TWIN, FIM], ids=["prefix", "fim"])
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
    mass = TWIN.log_prob(rows).detach()
    found = proposal.given(canvas, target=TWIN).sample(DRAWS, method, generator=1)
    agrees(found, rows, mass.softmax(0))
    if found.log_evidence is not None:
        assert found.log_evidence == pytest.approx(float(mass.logsumexp(0)), abs=4 * found.log_evidence_error)


def test_particles_that_are_replaced_go_on_from_the_others_state():
    """After a resampling that keeps one ancestor alone, all particles are continuations of it."""
    canvas = CANVASES["known length"].repeat(64)
    for prior in (TWIN, FIM):
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
