"""`Prior.infill`: texts and figures, seeds, policies by name, and mistakes in one clear line."""

import importlib
from dataclasses import replace

import pytest
import torch

from tests.helpers.gapped_texts import TEXTS, encoded
from textdiff.errors import UserError
from textdiff.priors import AutoregressivePrior, DiffusionPrior
from textdiff.samplers import (
    Blocks,
    ByConfidence,
    Dependence,
    Entropy,
    LogProbKind,
    Loop,
    PathPlanning,
    RandomOrder,
    Remasking,
    SampledConfidence,
    Strided,
    Threshold,
)
from textdiff.text import Vocabulary


def test_infill_gives_text_and_figures(prior):
    text = "Lily lost her ball. [gap:4-6] She was [gap:2]."
    fills = prior.infill(text, n=5, seed=0)
    canvas = encoded(prior, text, 5)
    assert len(fills) == len(fills.texts) == len(fills.samples) == 5
    for filled in fills:
        assert filled.text == f"Lily lost her ball. {filled.fills[0]} She was {filled.fills[1]}."
    assert fills[1] is list(fills)[1]
    assert fills.kind is LogProbKind.EXACT
    torch.testing.assert_close(fills.log_q, prior.score(canvas, fills.tokens).log_q, rtol=1e-5, atol=1e-5)
    assert fills.nfe.shape == (5,) and (fills.nfe >= 4).all()
    assert fills.seconds > 0
    heading, *lines = str(fills).splitlines()
    assert heading.split() == ["log", "q", "fill", *f"({prior.label})".split()]
    assert f"{fills.log_q[0]:.2f}" in lines[0]


def test_seeds_repeat_and_a_fill_does_not_depend_on_how_many_there_are(prior):
    text = TEXTS[1]
    first, again, other = (prior.infill(text, n=6, seed=seed) for seed in (3, 3, 4))
    assert first.texts == again.texts
    assert torch.equal(first.log_q, again.log_q)
    assert first.texts != other.texts
    assert len(set(first.texts)) == 6
    assert prior.infill(text, n=2, seed=3).texts == first.texts[:2]
    state = torch.get_rng_state()
    assert prior.infill(text, n=3).texts != prior.infill(text, n=3).texts  # no seed: from the system
    assert torch.equal(torch.get_rng_state(), state)


def test_many_fills_are_drawn_a_few_at_a_time(prior, monkeypatch):
    text, sizes, sample = TEXTS[1], [], type(prior).sample
    first = prior.infill(text, n=6, seed=3)
    length = encoded(prior, text).tokens.shape[1]
    monkeypatch.setattr(importlib.import_module("textdiff.posterior.posterior"), "CHUNK", 4 * length)
    monkeypatch.setattr(type(prior), "sample", lambda *a, **k: sizes.append(len(a[1])) or sample(*a, **k))
    chunked = prior.infill(text, n=6, seed=3)
    assert sizes == [4, 2]
    assert chunked.texts == first.texts
    assert torch.equal(chunked.nfe, first.nfe)
    torch.testing.assert_close(chunked.log_q, first.log_q)


def test_watching(prior, monkeypatch):
    monkeypatch.setattr(importlib.import_module("textdiff.posterior.posterior"), "CHUNK", 40)
    seen = []
    fills = prior.infill(TEXTS[1], n=4, seed=0, watch=lambda *step: seen.append(step))
    slots = encoded(prior, TEXTS[1], 4).slots
    assert torch.equal(sum(revealed.long() for _, revealed in seen), slots.long())
    for tokens, revealed in seen:
        slots = slots & ~revealed
        assert torch.equal(tokens == prior.vocabulary.mask, slots)
        assert torch.equal(tokens[~slots], fills.tokens[~slots])


@pytest.mark.parametrize(
    "request_, complaint",
    [
        ({"text": ""}, "the text is empty"),
        ({"text": "  \n"}, "the text is empty"),
        ({"text": "Lily lost her ball."}, "no gap"),
        ({"text": "Lily [gap:x]."}, "malformed gap marker"),
        ({"text": "Lily [gap][gap]."}, "nothing between them"),
        ({"text": "Lily [gap:500]."}, r"takes 50\d tokens, 500 of them in gaps, and the model reads at most 128"),
        ({"text": "Lily lost " * 100 + "[gap]"}, "reads at most 128"),
        ({"n": 0}, "n is 0"),
        ({"top_k": 0}, "top_k is 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"seed": "zero"}, "seed is 'zero'"),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_met_gets_one_clear_line(prior, request_, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        prior.infill(**{"text": "Lily lost [gap:2]."} | request_)
    assert "\n" not in str(error.value)


def test_a_text_as_long_as_the_context_is_taken(prior):
    assert len(prior.infill("[gap:126]", seed=0)) == 1  # bos and eos are the other two
    with pytest.raises(UserError, match="takes 129 tokens"):
        prior.infill("[gap:127]", seed=0)


@pytest.mark.parametrize(
    "options, label",
    [
        ({}, "strided, 16 steps"),
        ({"steps": 4}, "strided, 4 steps"),
        ({"steps": 1}, "strided, 1 step"),
        ({"policy": "strided"}, "strided, 16 steps"),
        ({"policy": "dilated"}, "dilated"),
        ({"policy": "entropy", "steps": 2}, "entropy, 2 steps"),
        ({"policy": "left-to-right"}, "left-to-right"),
        ({"policy": "entropy-bounded"}, "entropy-bounded, gamma 0.1"),
        ({"policy": Threshold(0.5)}, "threshold, tau 0.5"),
    ],
    ids=str,
)
def test_policies_are_named(diffusion, options, label):
    fills = diffusion.infill("Lily lost [gap:8].", seed=0, **options)
    assert fills.label == label
    steps = options.get("steps", 8)
    assert fills.nfe.item() <= steps


def test_a_prior_keeps_its_own_policy(diffusion):
    prior = diffusion.with_policy(Entropy(3))
    assert prior.network is diffusion.network
    assert prior.label == "entropy, 3 steps"
    assert prior.with_policy(steps=5).label == "entropy, 5 steps"
    assert prior.with_policy() is prior.with_policy("entropy") is prior
    assert prior.infill("Lily [gap:6].", seed=0).nfe.tolist() == [3]
    assert prior.infill("Lily [gap:6].", seed=0, steps=2).nfe.tolist() == [2]
    assert diffusion.label == "strided, 16 steps"


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"policy": "psychic"}, "policy is 'psychic', expected one of strided, dilated"),
        ({"policy": "threshold", "steps": 3}, "takes no steps"),
        ({"policy": Strided(3), "steps": 4}, "brings its own number of steps"),
        ({"steps": 0}, "steps is 0"),
    ],
    ids=str,
)
def test_a_bad_policy_gets_one_clear_line(diffusion, options, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        diffusion.infill("Lily [gap:3].", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"policy": "strided"}, {"steps": 4}, {"policy": Strided(2)}], ids=str)
def test_an_autoregressive_prior_has_no_policy(autoregressive, options):
    with pytest.raises(UserError, match="goes from left to right"):
        autoregressive.infill("Lily [gap:3].", **options)
    assert autoregressive.infill("Lily [gap:3].").label == "autoregressive, prefix only"


def test_a_policy_without_probabilities_says_so(diffusion):
    fills = diffusion.infill("Lily [gap:3].", n=2, policy="sampled-confidence", seed=0)
    assert fills.log_q is None
    assert fills.kind is LogProbKind.NONE
    assert [line.split()[0] for line in str(fills).splitlines()[1:]] == ["-", "-"]
    with pytest.raises(UserError, match="no log-probability"):
        diffusion.with_policy(SampledConfidence()).score(encoded(diffusion, "Lily [gap:3].", 2), fills.tokens)
    assert diffusion.infill("Lily [gap:3].", policy=RandomOrder(), seed=0).kind is LogProbKind.GIVEN_ORDER


def test_an_error_budget_chooses_the_steps(diffusion, autoregressive):
    with pytest.raises(UserError, match="not: run textdiff calibrate"):
        diffusion.infill("Lily [gap:6].", error_budget=0.1)
    with pytest.raises(UserError, match="for a diffusion prior"):
        autoregressive.infill("Lily [gap:6].", error_budget=0.1)
    calibrated = replace(diffusion, dependence=Dependence(((0.4, 0.1, 0.02),) * 4))
    with pytest.raises(UserError, match="leave out policy and steps"):
        calibrated.infill("Lily [gap:6].", error_budget=0.1, steps=2)
    fills = [calibrated.infill("Lily [gap:6].", n=2, error_budget=nats, seed=0) for nats in (0.0, 0.2, 99.0)]
    steps = [int(some.nfe.max()) for some in fills]
    assert steps[0] == 6 > steps[1] > steps[2] == 1
    assert fills[1].label == "error-budget, nats 0.2"
    within = calibrated.with_error_budget(0.2)
    assert torch.allclose(within.score(encoded(within, "Lily [gap:6].", 2), fills[1].tokens).log_q, fills[1].log_q)


def test_guidance_is_a_heuristic_and_says_so(diffusion):
    fills = diffusion.with_guidance(1.5).infill("Lily [gap:4] ball.", n=2, seed=0, steps=2)
    assert fills.label == "strided, 2 steps, guidance 1.5 (heuristic)"
    assert fills.kind is LogProbKind.EXACT
    plain = diffusion.infill("Lily [gap:4] ball.", n=2, seed=0, steps=2)
    none = diffusion.with_guidance(2.0).with_guidance(0.0).infill("Lily [gap:4] ball.", n=2, seed=0, steps=2)
    assert torch.equal(none.tokens, plain.tokens) and not torch.allclose(fills.log_q, plain.log_q)


def test_the_two_kinds(diffusion, autoregressive, tokenizer):
    assert type(diffusion) is DiffusionPrior
    assert type(autoregressive) is AutoregressivePrior
    assert diffusion.vocabulary.size == Vocabulary.of(tokenizer).size
    assert diffusion.device == torch.device("cpu")


@pytest.mark.parametrize(
    "policy, label",
    [
        ("blocks", "blocks, strided, 16 steps, length 32"),
        (Blocks(Entropy(), 8), "blocks, entropy, length 8"),
        ("remasking", "remasking, 32 steps, rescale, eta 0.1"),
        (
            Remasking(9, ByConfidence(), Loop()),
            "remasking, 9 steps, by confidence, loop, level 0.9, begin 0.45, end 0.95",
        ),
        (PathPlanning(4), "path-planning, 4 steps, eta 1.0"),
    ],
    ids=str,
)
def test_the_label_names_a_policy_within_a_policy(diffusion, policy, label):
    assert diffusion.with_policy(policy).label == label
