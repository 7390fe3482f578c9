"""What every prior does: it fills gaps, knows how likely each fill was, and says what is wrong with a request."""

import importlib
import itertools
import threading
from dataclasses import replace

import pytest
import torch

from textdiff.errors import UserError
from textdiff.evidence import Likelihood, Observed
from textdiff.priors import AutoregressivePrior, DiffusionPrior
from textdiff.samplers import (
    Blocks,
    ByConfidence,
    Cap,
    Dependence,
    Dilated,
    Entropy,
    EntropyBounded,
    LeftToRight,
    LogProbKind,
    Loop,
    PathPlanning,
    RandomOrder,
    Remasking,
    SampledConfidence,
    Strided,
    Tempering,
    Threshold,
)
from textdiff.text import Canvas, Template, Vocabulary

TEXTS = [
    "Lily lost her ball. [gap:6] She was happy.",
    "Lily [gap:2-5] her [gap:3]. She [gap:0-4] happy again.",
    "Tom had [gap:2-4] [gap:0-3] dog.",  # nothing but a blank between the gaps
    "un[gap:1-3]ing",
    "[gap:3]",
    "[gap:0-2] end",
]
EXACT = [Strided(1), Strided(4), Dilated(), Entropy(3), EntropyBounded(1.0), Threshold(0.2), LeftToRight()]
EXACT += [Blocks(Strided(2), 3), Blocks(Entropy(2), 4)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def encoded(prior, text, n=1):
    return Template.parse(text).encode(prior.tokenizer).repeat(n)


def ragged(prior, n=3):
    """All texts in one batch, some of them several times."""
    return Canvas.stack([encoded(prior, text, n) for text in TEXTS], prior.vocabulary.pad)


@pytest.mark.parametrize("text", TEXTS)
def test_a_sample_knows_its_own_probability(prior, text):
    canvas = encoded(prior, text, 20)
    drawn = prior.sample(canvas, seeded())
    scored = prior.score(canvas, drawn.tokens)
    assert drawn.kind is scored.kind is LogProbKind.EXACT
    assert drawn.log_q.dtype is torch.float64
    torch.testing.assert_close(drawn.log_q, scored.log_q, rtol=1e-5, atol=1e-5)
    assert (drawn.log_q < 0).all()


@pytest.mark.parametrize("policy", EXACT, ids=str)
def test_a_ragged_batch_knows_its_probabilities_under_every_policy(diffusion, policy):
    prior, canvas = diffusion.with_policy(policy), ragged(diffusion)
    drawn = prior.sample(canvas, seeded(1))
    torch.testing.assert_close(drawn.log_q, prior.score(canvas, drawn.tokens).log_q, rtol=1e-5, atol=1e-5)


def test_a_tempered_sample_knows_its_own_probability(prior):
    canvas, options = ragged(prior), {"tempering": Tempering(0.7, 0.8)}
    drawn = prior.sample(canvas, seeded(), **options)
    scored = prior.score(canvas, drawn.tokens, **options)
    torch.testing.assert_close(drawn.log_q, scored.log_q, rtol=1e-5, atol=1e-5)
    assert (drawn.log_q > prior.score(canvas, drawn.tokens).log_q).any()


def test_rows_do_not_feel_batch_mates_or_padding(prior):
    canvas = ragged(prior)
    together, generator = prior.sample(canvas, seeded(7)), seeded(7)
    for start, text in zip(range(0, len(canvas), 3), TEXTS, strict=True):
        alone = prior.sample(encoded(prior, text, 3), generator)
        length = alone.tokens.shape[1]
        assert torch.equal(together.tokens[start : start + 3, :length], alone.tokens)
        assert (together.tokens[start : start + 3, length:] == prior.vocabulary.pad).all()
        torch.testing.assert_close(together.log_q[start : start + 3], alone.log_q, rtol=1e-5, atol=1e-5)
        assert torch.equal(together.nfe[start : start + 3], alone.nfe)


def test_fills_are_lawful(prior):
    canvas, vocabulary = ragged(prior, n=20), prior.vocabulary
    tokens = prior.sample(canvas, seeded()).tokens
    assert torch.equal(tokens[~canvas.slots], canvas.tokens[~canvas.slots])
    assert not vocabulary.forbidden[tokens[canvas.slots]].any()
    starts = tokens[canvas.word_start]
    assert (vocabulary.starts_word[starts] | (starts == vocabulary.null)).all()
    for row in range(len(canvas)):
        for gap, least in enumerate(canvas.minimum[row].tolist()):
            held = (tokens[row, canvas.gap[row] == gap] != vocabulary.null).tolist()
            assert held == sorted(held, reverse=True) and sum(held) >= least


def test_a_fill_that_cannot_be_drawn_has_no_probability(prior):
    vocabulary, canvas = prior.vocabulary, encoded(prior, "Tom had [gap:1-3] dog.")
    good = prior.sample(canvas, seeded()).tokens
    slots = canvas.slots[0].nonzero()[:, 0]
    word, inside = vocabulary.starts_word.nonzero()[0, 0], prior.tokenizer.encode("o")[0]
    for fill, possible in (
        ([word, inside, inside], True),
        ([word, vocabulary.null, vocabulary.null], True),
        ([inside, inside, inside], False),  # must begin with a blank
        ([word, vocabulary.null, inside], False),
        ([vocabulary.null] * 3, False),
        ([word, vocabulary.eos, inside], False),
        ([word, vocabulary.pad, inside], False),
        ([word, vocabulary.mask, inside], False),
    ):
        tokens = good.index_put((torch.tensor(0), slots), torch.tensor(fill))
        assert prior.score(canvas, tokens).log_q.isfinite().item() == possible
    exact = encoded(prior, "Tom had [gap:3] dog.")
    unused = exact.tokens.index_put((torch.tensor(0), slots), torch.tensor([word, inside, vocabulary.null]))
    assert prior.score(exact, unused).log_q == -torch.inf


def test_tokens_to_score_must_agree_with_the_evidence(prior):
    canvas = encoded(prior, "Tom had [gap:3] dog.")
    tokens = prior.sample(canvas, seeded()).tokens
    for wrong in (tokens[:, :-1], tokens.index_fill(1, torch.tensor(1), int(tokens[0, 2]))):
        with pytest.raises(ValueError, match="differ from the canvas"):
            prior.score(canvas, wrong)


def test_nothing_to_fill(prior):
    tokens = torch.tensor([[prior.vocabulary.bos, 5, 6, prior.vocabulary.eos]])
    canvas = Canvas.of(tokens, prior.vocabulary.mask)
    for result in (prior.sample(canvas, seeded()), prior.score(canvas, tokens)):
        assert torch.equal(result.tokens, tokens)
        assert result.log_q.tolist() == [0.0]
        assert result.nfe.tolist() == result.steps.tolist() == [0]


def test_scores_can_be_differentiated_and_samples_are_not(prior):
    canvas = encoded(prior, TEXTS[1], 2)
    tokens = prior.sample(canvas, seeded()).tokens
    prior.score(canvas, tokens).log_q.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in prior.network.parameters())
    prior.network.zero_grad()
    assert not prior.sample(canvas, seeded()).log_q.requires_grad


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
def test_a_request_that_cannot_be_met_is_told_in_one_line(prior, request_, complaint):
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
def test_a_bad_policy_is_told_in_one_line(diffusion, options, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        diffusion.infill("Lily [gap:3].", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"policy": "strided"}, {"steps": 4}, {"policy": Strided(2)}], ids=str)
def test_the_twin_has_no_policy(autoregressive, options):
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


def test_a_stream_sharpens_into_the_same_samples(prior):
    text = "Lily lost her [gap:3-6] ball. She was [gap:2]."
    *drafts, samples = prior.infill(text, 3, seed=4, stream=True)
    again = prior.infill(text, 3, seed=4)
    assert torch.equal(samples.tokens, again.tokens)
    torch.testing.assert_close(samples.log_q, again.log_q)
    counts = [int(draft.open.sum()) for draft in drafts]
    assert counts == sorted(counts, reverse=True) and counts[-1] == 0
    for draft in drafts:
        assert [text.count("░") for text in draft.texts] == draft.open.sum(dim=1).tolist()
        assert (draft.tokens[draft.open] == prior.vocabulary.mask).all()
        settled = ~draft.open
        assert torch.equal(draft.tokens[settled], samples.tokens[settled])
    assert torch.equal(torch.stack([draft.revealed for draft in drafts]).sum(dim=0) > 0, samples_slots(prior, text, 3))
    assert drafts[-1].texts == samples.texts


@pytest.mark.parametrize("policy", [Remasking(9, Cap(0.4)), PathPlanning(6, 3.0)], ids=str)
def test_a_stream_shows_what_is_masked_again(diffusion, policy):
    text, mask = "Lily lost her [gap:8-12] ball. She was [gap:3].", diffusion.vocabulary.mask
    *drafts, samples = diffusion.infill(text, 3, seed=4, policy=policy, stream=True)
    assert torch.equal(samples.tokens, diffusion.infill(text, 3, seed=4, policy=policy).tokens)
    for draft in drafts:
        assert torch.equal(draft.open, draft.tokens == mask)
        assert [text.count("░") for text in draft.texts] == draft.open.sum(dim=1).tolist()
    assert drafts[-1].texts == samples.texts
    assert any((later.open & ~draft.open).any() for draft, later in itertools.pairwise(drafts))


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
def test_a_policy_within_a_policy_is_told(diffusion, policy, label):
    assert diffusion.with_policy(policy).label == label


def samples_slots(prior, text, n):
    return prior.given(text).canvas.repeat(n).slots.cpu()


def test_a_stream_that_is_dropped_ends_and_one_that_fails_says_why(prior):
    before = threading.active_count()
    steps = prior.infill("Lily lost her [gap:6] ball.", 2, seed=0, stream=True)
    assert next(steps).open.any()
    steps.close()
    assert threading.active_count() == before
    with pytest.raises(UserError, match="stream and watch"):
        prior.infill("Lily [gap] ball.", watch=print, stream=True)
    with pytest.raises(UserError, match="has a likelihood"):
        list(prior.infill(Observed("Lily [gap] ball.") & Likelihood(lambda texts: [0.0] * len(texts)), stream=True))
