"""Streamed infilling shows every step, and ends with the samples that it would give at once."""

import itertools
import threading

import pytest
import torch

from textdiff.errors import UserError
from textdiff.evidence import Likelihood, Observed
from textdiff.samplers import (
    Cap,
    PathPlanning,
    Remasking,
)


def test_a_stream_ends_with_the_same_samples(prior):
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
