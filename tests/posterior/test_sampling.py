"""What every prior does with a canvas: fill its gaps, and score given fills."""

import pytest
import torch

from tests.helpers.gapped_texts import TEXTS, encoded, ragged
from tests.helpers.laws import seeded
from textdiff.samplers import (
    Blocks,
    Dilated,
    Entropy,
    EntropyBounded,
    LeftToRight,
    LogProbKind,
    Strided,
    Tempering,
    Threshold,
)
from textdiff.text import Canvas

EXACT = [Strided(1), Strided(4), Dilated(), Entropy(3), EntropyBounded(1.0), Threshold(0.2), LeftToRight()]
EXACT += [Blocks(Strided(2), 3), Blocks(Entropy(2), 4)]


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


def test_rows_do_not_depend_on_the_rest_of_the_batch_or_on_padding(prior):
    canvas = ragged(prior)
    batch, generator = prior.sample(canvas, seeded(7)), seeded(7)
    for start, text in zip(range(0, len(canvas), 3), TEXTS, strict=True):
        alone = prior.sample(encoded(prior, text, 3), generator)
        length = alone.tokens.shape[1]
        assert torch.equal(batch.tokens[start : start + 3, :length], alone.tokens)
        assert (batch.tokens[start : start + 3, length:] == prior.vocabulary.pad).all()
        torch.testing.assert_close(batch.log_q[start : start + 3], alone.log_q, rtol=1e-5, atol=1e-5)
        assert torch.equal(batch.nfe[start : start + 3], alone.nfe)


def test_fills_keep_the_rules_of_the_template(prior):
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
