"""The product of a denoiser and a causal network: exact if both are, and the formula in general."""

from dataclasses import replace

import pytest
import torch

from tests.helpers.laws import canvas_of as toy_canvas
from tests.helpers.laws import fills, frequencies, iid_noise, seeded, total_variation
from tests.helpers.networks import BOS, MASK, NULL, PAD, network, vocabulary
from tests.helpers.tiny import CORPUS, tiny
from textdiff.denoisers.product import ProductOfExperts
from textdiff.diffusion import subs
from textdiff.errors import UserError
from textdiff.inference import Importance
from textdiff.priors import AutoregressivePrior, DiffusionPrior
from textdiff.samplers import LeftToRight, path_log_prob, sample
from textdiff.testing.tables import TableOracle
from textdiff.text import Canvas, Vocabulary, train_tokenizer

VOCABULARY = vocabulary()
SHARES = (1.0, 0.5)


class Known:
    """An exact distribution as a denoiser that may see a part of a text only, and as the matching causal network."""

    device, context = torch.device("cpu"), None

    def __init__(self, oracle, pad):
        self.oracle, self.pad = oracle, pad

    def log_probs(self, canvas, observed, where=None, null=False):
        gone = canvas == self.pad
        log_probs = self.oracle.log_probs(canvas.masked_fill(gone, self.oracle.mask_id), observed & ~gone, where, null)
        return torch.nn.functional.pad(log_probs, (0, 1), value=-torch.inf)

    def hidden(self, tokens, visible, positions, cache):
        """In place of hidden states log-probs of the next token."""
        assert cache is None
        log_probs = torch.full((*tokens.shape, self.pad + 1), -torch.inf, dtype=torch.float64)
        for column in range(tokens.shape[1]):
            rest = torch.full((len(tokens), self.oracle.length - column - 1), self.oracle.mask_id)
            canvas = torch.cat((tokens[:, : column + 1], rest), dim=1)
            if rest.shape[1]:
                known = canvas != self.oracle.mask_id
                log_probs[:, column, :-1] = self.oracle.log_probs(canvas, known)[:, column + 1]
        return log_probs

    def head(self, states):
        return states

    def forbidden_mask(self, device, null=True):
        return torch.arange(self.pad + 1) >= self.oracle.mask_id


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("row", [(1, None, None, 2), (0, None, 2, None), (2, None, None, None)])
def test_of_exact_networks_it_is_exact(row, share):
    oracle = TableOracle.random(3, 4, seed=2)
    toy = Vocabulary.toy(3)
    pad = toy.size
    wide = replace(toy, size=toy.size + 1, pad=pad, **{
        name: torch.cat((getattr(toy, name), torch.tensor([last])))
        for name, last in (("forbidden", True), ("characters", 0), ("starts_word", False), ("breaks_line", False),
                           ("ends_sentence", False))
    })  # fmt: skip
    known = Known(oracle, pad)
    canvas = toy_canvas(toy, list(row))
    every = fills(canvas, toy)
    found = path_log_prob(
        ProductOfExperts(known, known, wide, share), canvas.repeat(len(every)), wide, LeftToRight(), every
    )
    exact = oracle.log_prob(every) - oracle.log_prob(canvas.tokens)
    assert torch.allclose(found.log_q, exact, atol=1e-10)


def prior(share, full=False, tilt=1.0):
    own = DiffusionPrior(network(**({"attention": "full"} if full else {})), None, VOCABULARY)
    other = AutoregressivePrior(network(causal=True, seed=1), None, VOCABULARY)
    return replace(
        own, network=ProductOfExperts(own.network, other.network, VOCABULARY, share, tilt), policy=LeftToRight()
    )


def rows(*texts):
    """Ragged rows with gaps: ids, None for a slot, NULL for an unused one."""
    longest = max(map(len, texts)) + 1
    ids = [[BOS, *(MASK if i is None else i for i in text), *[PAD] * (longest - 1 - len(text))] for text in texts]
    canvas = torch.tensor(ids)
    return canvas, (canvas != MASK) & (canvas != NULL)


CANVAS, OBSERVED = rows(
    (0, 1, None, None, 2, 3), (3, None, 2), (None, 1), (0, 1, None, NULL, 2, None, 0, 1, 3), (2, None, None, 1, None)
)


@pytest.mark.parametrize(("share", "strength"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.6), (0.0, 0.6)])
@pytest.mark.parametrize("full", [False, True], ids=["isolated", "full"])
def test_the_leftmost_slot_is_answered_by_the_formula(share, strength, full) -> None:
    product = prior(share, full, strength).network
    where = (CANVAS == MASK) & ~OBSERVED
    first = where & (where.cumsum(dim=1) == 1)
    found = product.log_probs(CANVAS, OBSERVED, where)
    cached = product.log_probs(CANVAS, OBSERVED, where, evidence=product.encode_evidence(CANVAS, OBSERVED))
    with_suffix = product.denoiser.log_probs(CANVAS, OBSERVED, where)
    assert torch.allclose(found, cached, atol=1e-4)
    expected = with_suffix.clone()
    for row, column in first.nonzero().tolist():
        text, seen = CANVAS[row], OBSERVED[row]
        end = column + int((seen[column:].cumsum(0) == 0).sum())
        ask = torch.zeros(1, end, dtype=torch.bool)
        ask[0, column] = True
        without_suffix = product.denoiser.log_probs(text[None, :end], seen[None, :end], ask)[0]
        before = text[:column][text[:column] != NULL]
        causal = subs(
            product.causal.logits(before[None])[:, -1], product.causal.forbidden_mask(before.device, null=False)
        )[0]
        at = int((where.flatten().cumsum(0) - 1).view_as(where)[row, column])
        mixed = {0: without_suffix, 1: causal}.get(share, share * causal + (1 - share) * without_suffix)
        tilt = (with_suffix[at] - without_suffix).where(with_suffix[at] > -torch.inf, torch.tensor(-torch.inf))
        expected[at] = (mixed + strength * tilt).log_softmax(-1)
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.allclose(product.log_probs(CANVAS, OBSERVED)[where], found, atol=1e-4)
    for row in range(len(CANVAS)):
        alone = product.log_probs(CANVAS[row : row + 1], OBSERVED[row : row + 1], where[row : row + 1])
        assert torch.allclose(alone, found[where.nonzero()[:, 0] == row], atol=1e-4)


def test_without_a_share_it_is_the_denoiser() -> None:
    product = prior(0.0).network
    where = ~OBSERVED & (CANVAS == MASK)
    assert torch.equal(product.log_probs(CANVAS, OBSERVED, where), product.denoiser.log_probs(CANVAS, OBSERVED, where))


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("minimum", [None, [0], [1]], ids=["known length", "perhaps empty", "unknown length"])
def test_draws_follow_their_scores(share, minimum) -> None:
    own = prior(share)
    tokens = torch.tensor([[BOS, 0, MASK, MASK, 2, 1]])
    canvas = Canvas.of(tokens, MASK)
    canvas = canvas if minimum is None else replace(canvas, minimum=torch.tensor([minimum]))
    every = fills(canvas, VOCABULARY)
    if minimum is None:
        every = every[(every != NULL).all(dim=1)]
    probs = own.score(canvas.repeat(len(every)), every).log_q.exp().detach()
    assert float(probs.sum()) == pytest.approx(1, abs=1e-5)
    drawn = own.sample(canvas.repeat(4000), seeded(1))
    assert torch.allclose(own.score(canvas.repeat(4000), drawn.tokens).log_q, drawn.log_q, atol=1e-4)
    assert total_variation(frequencies(drawn.tokens, every), probs) < 1.5 * iid_noise(probs, 4000)


def test_weighted_it_finds_the_posterior_of_the_causal_prior() -> None:
    baseline = tiny(causal=True)
    own = tiny().with_expert(baseline, share=1.0)
    assert own.label == "left-to-right, joined with a causal network, share 1.0"
    assert tiny().with_expert(baseline, tilt=0.6).label.endswith("causal network, share 0.5, tilt 0.6")
    posterior = own.given("Lily lost her [gap:1-2] ball. She was [gap:1].", target=baseline)
    found = posterior.sample(4000, Importance(), generator=0)
    again = baseline.given("Lily lost her [gap:1-2] ball. She was [gap:1].").sample(4000, Importance(), generator=0)
    error = found.log_evidence_error + again.log_evidence_error
    assert found.log_evidence == pytest.approx(again.log_evidence, abs=4 * error)


def test_mistakes_get_one_line() -> None:
    own, baseline = tiny(), tiny(causal=True)
    with pytest.raises(UserError, match=r"share is 1.5, expected a number from 0 to 1"):
        own.with_expert(baseline, share=1.5)
    with pytest.raises(UserError, match=r"tilt is -1, expected a number, 0 or more"):
        own.with_expert(baseline, tilt=-1)
    with pytest.raises(UserError, match="different tokenizers"):
        own.with_expert(tiny(train_tokenizer([text.upper() for text in CORPUS], 300), causal=True))
    with pytest.raises(UserError, match="padding token"):
        ProductOfExperts(own.network, baseline.network, replace(own.vocabulary, pad=None), 0.5)
    canvas = torch.tensor([[MASK, 1]])
    with pytest.raises(ValueError, match="begins with a gap"):
        prior(0.5).network.log_probs(canvas, canvas != MASK, canvas == MASK)


def test_sample_is_reachable_without_a_prior() -> None:
    """The loop takes it like any denoiser, whatever the policy."""
    own = prior(0.5)
    canvas = Canvas.of(torch.tensor([[BOS, 0, MASK, MASK, MASK, 2]]), MASK).repeat(3)
    drawn = sample(own.network, canvas, VOCABULARY, LeftToRight(), seeded(0))
    assert int(drawn.steps.max()) == 3 and (drawn.tokens != MASK).all()


@pytest.mark.parametrize(("share", "tilt", "each"), [(0.5, 1.0, 3), (0.0, 1.0, 1), (0.0, 0.5, 2)])
def test_every_pass_is_counted(share, tilt, each, monkeypatch):
    """A step calls the denoiser twice, and the causal network once if it has a share; lengths the denoiser alone."""
    own, asked = tiny().with_expert(tiny(causal=True), share, tilt), []
    for of, method in ((own.network.denoiser, "log_probs"), (own.network, "_prefix_log_probs")):
        answer = getattr(of, method)
        monkeypatch.setattr(of, method, lambda *a, answer=answer, **n: asked.append(1) or answer(*a, **n))
    found = own.infill("Lily lost her [gap:2-3] ball.", seed=0)
    gap = own.given("Lily lost her [gap:2-3] ball.").canvas.slots
    steps = int((found.tokens[gap] != own.vocabulary.null).sum())
    assert found.nfe.tolist() == [1 + each * steps] == [len(asked)]
