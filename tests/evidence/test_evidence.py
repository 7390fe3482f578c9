"""Evidence composes with `&`, weights samples as stated, and reports mistakes in one line."""

import math
from collections.abc import Sequence
from itertools import product

import pytest
import torch

import textdiff as td
from tests.helpers.tiny import tiny
from textdiff.errors import UserError
from textdiff.evidence import Both, Contains, Counts, Likelihood, Observed, Question, Reward, RightSum
from textdiff.priors import DiffusionPrior
from textdiff.text import Canvas
from textdiff.worlds import hmm, table, world


@pytest.fixture(scope="module")
def tokenizer():
    return hmm(states=2, symbols=4).tokenizer


def ones(tokens):
    return torch.ones(len(tokens))


def constant(value):
    return lambda tokens: torch.full((len(tokens),), value)


def no_text(tokens):
    raise AssertionError("tokens are enough")


def test_fixed_tokens_are_merged(tokenizer) -> None:
    both = Observed("a[gap:3]d") & Observed("a[gap:1]b[gap:1]d")
    canvas = both.canvas(tokenizer)
    assert tokenizer.decode(canvas.tokens[0]) == "<|bos|>a<|mask|>b<|mask|>d<|eos|>"
    assert canvas.gap[0].tolist() == [-1, -1, 0, -1, 1, -1, -1] and canvas.minimum.tolist() == [[1, 1]]
    assert both.template is None and not both.weighs


def test_likelihoods_multiply_and_the_template_stays(tokenizer) -> None:
    evidence = Likelihood(ones) & Observed("a[gap:2]d") & Likelihood(lambda tokens: 2 * ones(tokens))
    assert isinstance(evidence, Both) and evidence.weighs
    assert str(evidence.template) == "a[gap:2]d"
    tokens = evidence.canvas(tokenizer).tokens.repeat(3, 1)
    assert evidence.log_likelihood(tokens, no_text).tolist() == [3.0, 3.0, 3.0]
    assert evidence.log_potential(tokens, tokens > 0, no_text).tolist() == [0.0, 0.0, 0.0]


def test_a_look_ahead_is_asked_about_unfinished_texts(tokenizer) -> None:
    evidence = Observed("a[gap:2]d") & Likelihood(ones, lambda tokens, masked: masked.sum(dim=1).double())
    canvas = evidence.canvas(tokenizer)
    assert evidence.log_potential(canvas.tokens, canvas.slots, no_text).tolist() == [2.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: Observed("no gap"), "no gap"),
        (lambda t: Observed(Observed("a[gap:2]b").canvas(t).repeat(2)), "2 rows"),
        (lambda t: (Observed("a[gap:2]b") & Observed("a[gap:1-2]b")).canvas(t), "open length"),
        (lambda t: (Observed("a[gap:2]b") & Observed("a[gap:2]c")).canvas(t), "contradict each other at token 4"),
        (
            lambda t: Likelihood(lambda x: torch.full((len(x),), math.nan)).log_likelihood(torch.ones(2, 3), no_text),
            "gave nan",
        ),
        (
            lambda t: Likelihood(lambda x: torch.full((len(x),), math.inf)).log_likelihood(torch.ones(2, 3), no_text),
            "gave inf",
        ),
        (lambda t: Likelihood(lambda x: 3.0).log_likelihood(torch.ones(2, 3), no_text), "gave float for 2 texts"),
    ],
)
def test_mistakes_get_one_clear_line(make, message, tokenizer) -> None:
    with pytest.raises(UserError, match=message) as error:
        make(tokenizer)
    assert "\n" not in str(error.value)


def test_a_canvas_is_evidence(tokenizer) -> None:
    canvas = Observed("a[gap:2]d").canvas(tokenizer)
    again = Observed(Canvas.of(canvas.tokens, tokenizer.mask_token_id))
    assert torch.equal(again.canvas(tokenizer).gap, canvas.gap) and again.template is None


def test_a_question_is_a_template() -> None:
    assert str(Question("6 - 4 = ?").template) == "6 - 4 = ?\n[gap:1-32]\n[gap:1-8]"
    assert str(Question("6 - 4 = ?", answer="2").template) == "6 - 4 = ?\n[gap:1-32]\n2"
    assert str(Question("6 - 4 = ?", rationale="6 - 4 = 2").template) == "6 - 4 = ?\n6 - 4 = 2\n[gap:1-8]"
    story = Question("Who?", rationale="", context="A dog\nran.", gaps=(td.Gap(1, 8), td.Gap(2, 4)))
    assert str(story.template) == "A dog ran.\nWho?\n[gap:2-4]"
    with pytest.raises(UserError, match="nothing to seek"):
        Question("6?", answer="6", rationale="6")
    with pytest.raises(UserError, match="the question is empty"):
        Question(" ")


@pytest.mark.slow
def test_rationales_are_drawn_from_their_posterior() -> None:
    """Two orders of the terms, equally likely; each conditioning draws both."""
    automaton = world("arithmetic")
    network = DiffusionPrior(automaton, automaton.tokenizer, automaton.vocabulary).with_policy("left-to-right")
    drawn = network.given(Question("6 - 0 - 4 = ?", answer="2")).sample(40, generator=0)
    found = [fill.fills[0] for fill in drawn]
    assert set(found) == {"6 - 0 = 6, 6 - 4 = 2", "6 - 4 = 2, 2 - 0 = 2"} and 8 < found.count(found[0]) < 32
    both = network.given(Question("6 - 0 - 4 = ?")).sample(3, generator=0)
    assert {fill.fills[1] for fill in both} == {"2"}


def test_a_reward_tilts_the_posterior() -> None:
    """exp(score / temperature) against enumeration, for each method that weights samples."""
    automaton = table({"xay": 1.0, "xby": 2.0, "xcy": 1.0, "xabcy": 4.0})
    prior = DiffusionPrior(automaton, automaton.tokenizer, automaton.vocabulary)
    reward = Reward(lambda fills: [float("abc".index(fill)) for fill in fills], temperature=0.5, gap=0)
    posterior = prior.given(Observed("x[gap:1]y") & reward)
    raw = {"a": 0.25, "b": 0.5 * math.exp(2), "c": 0.25 * math.exp(4)}
    for method in (td.Importance(), td.SMC(), td.MetropolisHastings(sweeps=20)):
        drawn = posterior.sample(2000, method, generator=0)
        weights = drawn.log_weights.softmax(0)
        for fill, mass in raw.items():
            share = sum(w for found, w in zip(drawn, weights.tolist(), strict=True) if found.fills[0] == fill)
            assert share == pytest.approx(mass / sum(raw.values()), abs=0.03), method
    whole = Reward(lambda texts: [-math.inf if "b" in text else 0.0 for text in texts])
    assert {
        fill.text for fill in prior.given(Observed("x[gap:1]y") & whole).sample(50, td.Rejection(), generator=0)
    } == {
        "xay",
        "xcy",
    }
    constrained = prior.given(Observed("x[gap:1-3]y") & reward_of_length & Contains("abc"))
    assert {fill.fills[0] for fill in constrained.sample(20, td.Importance(), generator=0)} == {"abc"}


reward_of_length = Reward(lambda texts: torch.tensor([float(len(text)) for text in texts]))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda texts: 1 / 0, "the niceness failed for 'x[abc]y': ZeroDivisionError: division by zero"),
        (lambda texts: [1.0], "gave a result of shape \\[1\\] for 8 texts"),
        (lambda texts: [math.nan] * len(texts), "gave nan for 'x[abc]y'"),
        (lambda texts: "no", "the niceness failed for"),
    ],
)
def test_a_reward_that_fails_names_the_text(function, message) -> None:
    automaton = table({"xay": 1.0, "xby": 2.0, "xcy": 1.0})
    prior = DiffusionPrior(automaton, automaton.tokenizer, automaton.vocabulary)
    with pytest.raises(UserError, match=message) as error:
        prior.given(Observed("x[gap:1]y") & Reward(function, name="niceness")).sample(8, td.Importance(), generator=0)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="about gap 3, but there are 1"):
        prior.given(Observed("x[gap:1]y") & Reward(len, gap=3)).sample(2, td.Importance(), generator=0)
    with pytest.raises(UserError, match="above 0"):
        Reward(len, temperature=0)


def test_particles_with_look_ahead_estimate_the_evidence() -> None:
    """Two nats for each a, in a perfect network: log Z within 0.15 of the sum over all fills, by 4,096 particles."""
    automaton = hmm(states=3, symbols=3, seed=1, concentration=0.5)
    prior = td.DiffusionPrior(automaton, automaton.tokenizer, automaton.vocabulary).with_policy("left-to-right")
    v, ids = automaton.vocabulary, automaton.tokenizer.get_vocab()
    canvas = td.Canvas.of(torch.tensor([[v.bos, ids["b"], *[v.mask] * 5, ids["c"], v.eos]]), v.mask)
    fills = torch.tensor(list(product([ids[symbol] for symbol in "abc"], repeat=5)))
    tokens = canvas.tokens.repeat(len(fills), 1)
    tokens[:, canvas.slots[0]] = fills
    reward_of_fills = 2.0 * (fills == ids["a"]).sum(dim=1)
    truth = float((automaton.score(canvas.repeat(len(fills)), tokens).log_q + reward_of_fills).logsumexp(0))
    reward = Reward(Counts(["a"], pieces=True), 0.5, gap=0, look_ahead=True)
    found = prior.given(Observed(canvas) & reward).sample(4096, td.SMC(), generator=0)
    assert found.log_evidence == pytest.approx(truth, abs=0.15)
    assert found.diagnostics["resamplings"] > 0


def test_open_slots_are_left_out_of_decoded_texts() -> None:
    prior = tiny()
    seen: list[str] = []

    def score(texts: Sequence[str]) -> list[float]:
        seen.extend(texts)
        return [0.0] * len(texts)

    evidence = Observed("Lily lost her [gap:3] happy again.") & Reward(score, gap=0, look_ahead=True)
    found = prior.with_policy("left-to-right").given(evidence).sample(2, td.SMC(), generator=0)
    assert len(seen) == 2 * 4 and seen[:2] == ["", ""] and seen[-2:] == [fill.fills[0] for fill in found]


def test_a_sum_is_right_if_its_last_line_is_its_value() -> None:
    texts = [
        "6 - 0 - 4 = ?\n6 - 4 = 2, 2 - 0 = 2\n2",
        "3 - 5 = ?\n?\n-2",
        "3 - 5 = ?\n-2\n2",
        "12 + 30 = ?\n42",
        "?\n0",
        "7 = ?",
    ]
    assert RightSum()(texts) == [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]
