"""The length of a gap by the evidence at each length."""

import math

import pytest
import torch

from textdiff.errors import UserError
from textdiff.evidence import Contains, Observed, Reward
from textdiff.inference import SMC, ByLength, Exact, Importance
from textdiff.posterior import Conditioning
from textdiff.priors import DiffusionPrior
from textdiff.samplers import RandomOrder, Strided
from textdiff.text import Canvas, Gap, Template
from textdiff.worlds import hmm, table

WORDS = {"ab.": 4.0, "abab.": 2.0, "acab.": 1.0, "aab.": 3.0, "acccab.": 2.0, "b.": 1.0, "acb.": 5.0}


@pytest.fixture(scope="module")
def world():
    return table(WORDS)


@pytest.fixture(scope="module")
def chain():
    return hmm(states=3, symbols=4, seed=1, concentration=0.5)


def template(before, gap, after):
    return Observed(Template((before, gap, after)))


def one_by_one(world):
    return DiffusionPrior(world, world.tokenizer, world.vocabulary, Strided(64))


def truth(world, evidence):
    return world.length_log_probs(world.given(evidence).canvas)[0].exp()


def test_exact_evidence_gives_the_exact_length_distribution(world, chain):
    for prior, evidence in ((world, template("a", Gap(0, 5), "b.")), (chain, template("ab", Gap(1, 6), "cab"))):
        found = ByLength(method=Exact()).length_log_probs(prior.given(evidence), 6, torch.Generator().manual_seed(0))
        torch.testing.assert_close(found.exp(), truth(prior, evidence))


@pytest.mark.parametrize("method", [None, SMC()], ids=["default", "smc"])
def test_estimated_evidence_comes_near(chain, method):
    # 400 proposals of each length from a perfect denoiser towards the world's joint: within 0.02 of the truth.
    evidence = template("ab", Gap(0, 4), "cab")
    posterior = one_by_one(chain).given(evidence, target=chain)
    found = ByLength(method=method).length_log_probs(posterior, 2000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.exp(), truth(chain, evidence), atol=0.02, rtol=0)


@pytest.mark.parametrize("before", ["a", "ab"])
def test_a_denoiser_weighs_lengths_by_what_stands_beside_the_gap(chain, before):
    # A perfect denoiser, one token per step: p(window, fill | rest) / p(fill | all) is p(window | rest, n), whatever
    # the fill; with a window over all the text it is p(y | n), and the distribution of lengths is exact.
    evidence = template(before, Gap(0, 5), "cab")
    found = ByLength(window=8).length_log_probs(one_by_one(chain).given(evidence), 6, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.exp(), truth(chain, evidence))
    short = ByLength(window=1).length_log_probs(one_by_one(chain).given(evidence), 6, torch.Generator().manual_seed(0))
    assert bool((short - found).abs().max() > 1e-4) is (before == "ab")  # with "a" nothing is left before the window


def test_a_gap_may_stand_at_the_end_of_a_canvas(chain):
    # No bos, no eos: the first and the last token stay evidence, and a window that is empty on one side is no mistake.
    mask_id = chain.tokenizer.mask_token_id
    ids = chain.tokenizer.convert_tokens_to_ids(list("abc"))
    for row in ([mask_id] * 3 + ids, ids + [mask_id] * 3):
        canvas = Canvas.of(torch.tensor([row]), mask_id)
        canvas.minimum[:] = 1
        found = ByLength().length_log_probs(one_by_one(chain).given(canvas), 3, torch.Generator().manual_seed(0))
        assert float(found.exp().sum()) == pytest.approx(1)


def test_samples_are_of_the_posterior(world):
    # Weighted fills against the table: total variation below 0.03 with 6,000 samples.
    posterior = one_by_one(world).given(template("a", Gap(0, 5), "b."), target=world)
    drawn = posterior.sample(6000, ByLength(), generator=0)
    mass = {}
    for text, weight in zip(drawn.texts, drawn.weights.tolist(), strict=True):
        mass[text] = mass.get(text, 0.0) + weight
    wanted = {text: weight for text, weight in WORDS.items() if text.startswith("a") and text.endswith("b.")}
    total = sum(wanted.values())
    assert sum(abs(mass.get(text, 0.0) - wanted.get(text, 0.0) / total) for text in {*mass, *wanted}) / 2 < 0.03
    assert sum(value for name, value in drawn.diagnostics.items() if name.startswith("length")) == pytest.approx(1)
    # the mean weight estimates the evidence under a uniform prior on six lengths
    log_z = math.log(sum(wanted.values()) / sum(WORDS.values()))
    assert drawn.log_evidence == pytest.approx(log_z, abs=0.1)


def test_a_prior_of_lengths_counts(world):
    posterior = world.given(template("a", Gap(0, 5), "b."))
    even, tilted = (
        ByLength(method=Exact(), log_prior=prior).length_log_probs(posterior, 6, torch.Generator())
        for prior in (None, lambda n: -2.0 * n)
    )
    wanted = (even - 2.0 * torch.arange(6)).log_softmax(0)
    assert (even > -math.inf).tolist() == [True, True, True, False, True, False]
    torch.testing.assert_close(tilted.exp(), wanted.exp())


def test_constraints_and_rewards_compose(world):
    posterior = one_by_one(world).given(
        template("a", Gap(0, 5), "b.") & Reward(lambda texts: [float(len(text)) for text in texts], gap=0), target=world
    )
    drawn = posterior.sample(3000, ByLength(), generator=0)
    wanted = {t: w * math.exp(len(t) - 3) for t, w in WORDS.items() if t.startswith("a") and t.endswith("b.")}
    total = sum(wanted.values())
    for n in range(6):
        share = sum(weight for text, weight in wanted.items() if len(text) == n + 3) / total
        assert drawn.diagnostics.get(f"length {n}", 0.0) == pytest.approx(share, abs=0.03)
    only = one_by_one(world).given(template("a", Gap(1, 5), "b.") & Contains("abab.", gap=None), target=world)
    assert set(only.sample(20, ByLength(lengths=[2]), generator=0).texts) == {"abab."}
    assert set(only.sample(20, ByLength(), generator=0).resample(generator=0).texts) == {
        "abab."
    }  # the other lengths cannot hold it


def test_the_grid_is_even_and_bounded(chain):
    posterior = chain.given(template("ab", Gap(0, 40), "cab"))
    drawn = posterior.sample(16, ByLength(method=Exact()), generator=0)
    lengths = [int(name.split()[1]) for name in drawn.diagnostics]
    assert (len(lengths), lengths[0], lengths[-1]) == (16, 0, 40)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 3}, "n is 3 for 6 lengths"),
        ({"how": ByLength(lengths=[9])}, "expected some of 0 to 5"),
        ({"text": template("a", Gap(2, 2), "b.")}, "0 gaps have an open length"),
        ({"how": ByLength(method=Conditioning())}, "does not estimate the evidence"),
        ({"target": None, "policy": RandomOrder(2)}, "or give target="),
        ({"target": None, "how": ByLength(method=Importance())}, "or give target="),
    ],
    ids=str,
)
def test_mistakes(world, change, words):
    options = {
        "n": 6,
        "how": ByLength(),
        "text": template("a", Gap(0, 5), "b."),
        "target": world,
        "policy": Strided(64),
    }
    options |= change
    prior = DiffusionPrior(world, world.tokenizer, world.vocabulary, options["policy"])
    posterior = prior.given(options["text"], target=options["target"])
    with pytest.raises(UserError, match=words):
        posterior.sample(options["n"], options["how"], generator=0)
