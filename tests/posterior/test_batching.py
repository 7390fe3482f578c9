"""Fills of several texts in one batch are those that each text would get alone."""

import pytest
import torch

from tests.helpers.tiny import tiny
from textdiff.errors import UserError
from textdiff.posterior import Conditioning, infill_batch
from textdiff.samplers import Blocks, Entropy, Tempering

TEXTS = [
    "Lily lost her [gap:3].",
    "Tom [gap:1-5] her red ball. She was [gap:2] again.",
    "Mia [gap] She was happy again.",
]
PRIORS = {
    "denoiser": tiny(),
    "random order": tiny().with_policy("random", 3),
    "confidence": tiny().with_policy("sampled-confidence", 3),
    "remasking": tiny().with_policy("remasking", 5),
    "path planning": tiny().with_policy("path-planning", 3),
    "blocks": tiny().with_policy(Blocks(Entropy(2), 3)),
    "autoregressive": tiny(causal=True),
    "fill in the middle": tiny(causal=True, fill_in_middle=True),
}


@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("n", [1, 3])
def test_a_batch_gives_the_fills_of_each_text_alone(kind: str, n: int) -> None:
    prior, tempering = PRIORS[kind], Tempering(temperature=0.8)
    posteriors = [prior.given(text) for text in TEXTS]
    found = infill_batch(posteriors, n, [5, 2**40, 5], tempering)
    for posterior, seed, fills in zip(posteriors, [5, 2**40, 5], found, strict=True):
        alone = posterior.sample(n, Conditioning(tempering), generator=seed)
        assert torch.equal(fills.tokens, alone.tokens) and fills.texts == alone.texts
        assert (fills.kind, fills.label, fills.target) == (alone.kind, alone.label, alone.target)
        assert (fills.log_q is None) == (alone.log_q is None) and torch.equal(fills.nfe, alone.nfe)
        if alone.log_q is not None:
            assert fills.log_q.tolist() == pytest.approx(alone.log_q.tolist(), rel=1e-4)


def test_small_batches_give_the_same_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    posteriors = [PRIORS["denoiser"].given(text) for text in TEXTS]
    whole = infill_batch(posteriors, 3, [0, 1, 2])
    monkeypatch.setattr("textdiff.posterior.posterior.CHUNK", 100)
    for one, other in zip(whole, infill_batch(posteriors, 3, [0, 1, 2]), strict=True):
        assert torch.equal(one.tokens, other.tokens)
    assert infill_batch([], 3, []) == []


def test_a_seed_out_of_range_is_an_error() -> None:
    with pytest.raises(UserError, match="seed"):
        infill_batch([PRIORS["denoiser"].given(TEXTS[0])], 1, [2**65])
