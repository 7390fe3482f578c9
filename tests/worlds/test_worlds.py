"""Exact worlds against brute force: all fills are enumerated, and probabilities summed over all paths."""

import math

import pytest
import torch
from torch import Tensor

from tests.helpers.worlds import STORIES, WORLDS, all_fills, brute_force_prob, small_table
from textdiff.errors import UserError
from textdiff.posterior import seeded
from textdiff.priors import DiffusionPrior
from textdiff.samplers import LeftToRight
from textdiff.text import Canvas, encode
from textdiff.worlds import (
    ProbabilisticAutomaton,
    arithmetic,
    grammar,
    hmm,
    ngram,
    sums,
    table,
    texts,
    transitions,
    walk,
    world,
)
from textdiff.worlds.symbols import symbol_tokenizer


@pytest.fixture(params=WORLDS)
def small(request) -> ProbabilisticAutomaton:
    return WORLDS[request.param]()


@pytest.fixture(params=["dense", "sparse"])
def kind_of_transitions(request, monkeypatch):
    monkeypatch.setattr(transitions, "MOST_CELLS", 2**22 if request.param == "dense" else 0)


CASES = ["a[gap:2]b", "[gap:3]", "[gap:1]a[gap:1]", "[gap:0-3]b", "a[gap:1-2]b[gap:0-1]"]


@pytest.mark.parametrize("text", CASES)
def test_evidence_posterior_and_lengths_are_those_of_brute_force(small, kind_of_transitions, text) -> None:
    canvas = small.given(text).canvas
    rows = all_fills(small, canvas)
    joint = torch.tensor([brute_force_prob(small, row) for row in rows], dtype=torch.float64)
    assert torch.allclose(small.log_prob(rows).exp(), joint, atol=1e-12)
    total = joint.sum()
    assert torch.allclose(small.log_evidence(canvas).exp(), total[None])
    if total == 0:
        with pytest.raises(UserError, match="cannot have written"):
            small.sample(canvas, torch.Generator())
        return
    posterior = small.score(canvas.repeat(len(rows)), rows).log_q.exp()
    assert torch.allclose(posterior, joint / total, atol=1e-12)
    v = small.vocabulary
    for gap in range(canvas.minimum.shape[1]):
        length = (rows[:, canvas.gap[0] == gap] != v.null).sum(dim=1)
        probs = small.length_log_probs(canvas, gap)[0].exp()
        expected = torch.zeros_like(probs).index_add(0, length, joint / total)
        assert torch.allclose(probs, expected, atol=1e-12)


@pytest.mark.parametrize("text", ["a[gap:2]b", "[gap:3]", "[gap:1]a[gap:1]"])
def test_marginals_are_those_of_brute_force(small, kind_of_transitions, text) -> None:
    canvas = small.given(text).canvas
    rows = all_fills(small, canvas)
    joint = torch.tensor([brute_force_prob(small, row) for row in rows], dtype=torch.float64)
    if joint.sum() == 0:
        pytest.skip("this world cannot write the text")
    marginals = small.log_probs(canvas.tokens, canvas.observed, canvas.slots).exp()
    for probs, place in zip(marginals, canvas.slots[0].nonzero()[:, 0], strict=True):
        expected = torch.zeros_like(probs).index_add(0, rows[:, place], joint / joint.sum())
        assert torch.allclose(probs, expected, atol=1e-12)


def test_draws_follow_the_posterior(small, kind_of_transitions) -> None:
    """Total variation of 4,000 draws within 1.5 x that of as many iid ones (seed 0)."""
    posterior = small.given("[gap:0-3]" if small.name != "hmm of 3 states and 3 symbols" else "[gap:3]")
    rows = all_fills(small, posterior.canvas)
    probs = small.score(posterior.canvas.repeat(len(rows)), rows).log_q.exp()
    drawn = small.sample(posterior.canvas.repeat(4000), torch.Generator().manual_seed(0))
    assert torch.allclose(small.score(posterior.canvas.repeat(4000), drawn.tokens).log_q, drawn.log_q)
    matches = (drawn.tokens[:, None] == rows).all(dim=2)
    assert matches.sum(dim=1).eq(1).all()
    frequencies = matches.double().mean(dim=0)
    noise = torch.stack(
        [
            torch.multinomial(probs, 4000, replacement=True, generator=torch.Generator().manual_seed(r)).bincount(
                minlength=len(probs)
            )
            / 4000
            for r in range(20)
        ]
    )
    assert (frequencies - probs).abs().sum() < 1.5 * (noise - probs).abs().sum(dim=1).mean()


def test_texts_have_total_probability_one() -> None:
    automaton = small_table()
    assert torch.allclose(automaton.log_evidence(automaton.given("[gap:0-4]").canvas), torch.zeros(1).double())
    many = automaton.simulate(2000, 0)
    frequency = float((automaton.log_prob(many) == automaton.log_prob(many[:1])).double().mean())
    assert frequency == pytest.approx(float(automaton.log_prob(many[:1]).exp()), abs=0.04)


def test_left_to_right_with_a_perfect_denoiser_samples_the_posterior() -> None:
    automaton = hmm(states=3, symbols=4, seed=2)
    canvas = automaton.given("ab[gap:4]c[gap:2]a").canvas
    prior = DiffusionPrior(automaton, automaton.tokenizer, automaton.vocabulary, LeftToRight())
    drawn = prior.sample(canvas.repeat(50), torch.Generator().manual_seed(0))
    assert torch.allclose(automaton.score(canvas.repeat(50), drawn.tokens).log_q, drawn.log_q)


def test_an_ngram_has_witten_bell_smoothing() -> None:
    """Witten-Bell by hand: after "a", seen 2 x b and 1 x c; unigram (c + t / (V + 1)) / (n + t)."""
    automaton = ngram(["ab", "ab", "ac"], symbol_tokenizer("abc."), order=2)
    ids = automaton.tokenizer.get_vocab()
    unigram = {"a": 3, "b": 2, "c": 1, "end": 3}
    base = {k: (n + 4 * 0.25) / (9 + 4) for k, n in unigram.items()}
    for symbol, count in (("b", 2), ("c", 1), ("a", 0)):
        row = torch.tensor([[automaton.vocabulary.bos, ids["a"], ids[symbol]]])
        both, first = automaton.log_prob(row), automaton.log_prob(row[:, :2])
        assert float((both - first).exp()) == pytest.approx((count + 2 * base[symbol]) / (3 + 2))


def test_the_grammar_agrees_across_sentences() -> None:
    automaton = grammar()
    fills = automaton.given("Lily lost a hat.[gap:1-9] Lily cried.").sample(50, generator=0)
    assert not any(" He " in fill.text or "happy" in fill.text or " ball" in fill.text for fill in fills)
    who = automaton.given("[gap:1] found a hat. He was happy.[gap:0-8] Tom smiled.").sample(20, generator=0)
    assert {fill.fills[0] for fill in who} == {"Tom"}
    assert len({row for row in texts(automaton, 50, 0)}) > 20


def test_arithmetic_has_a_posterior_over_rationales() -> None:
    automaton = arithmetic()
    fills = automaton.given("6 - 0 - 4 = ?\n[gap:1-16]\n2").sample(40, generator=0)
    assert {fill.fills[0] for fill in fills} == {"6 - 0 = 6, 6 - 4 = 2", "6 - 4 = 2, 2 - 0 = 2"}
    assert fills.log_q.exp().allclose(torch.full((40,), 0.5, dtype=torch.float64))
    hidden = automaton.given("6 - [gap:1] - 4 = ?\n[gap:1-16]\n2").sample(10, generator=0)
    assert {fill.fills[0] for fill in hidden} == {"0"}


def test_sums_have_the_distribution_of_the_world() -> None:
    """Each sum has the probability that the world of three operands gives it; longer ones are right."""
    automaton = world("arithmetic")
    for text in sums(3, n=20, generator=0):
        row = torch.tensor([[automaton.vocabulary.bos, *encode(automaton.tokenizer, text), automaton.vocabulary.eos]])
        orders = len({*text.split("\n")[0].split(" = ")[0][1:].replace("- ", "-").replace("+ ", "+").split()})
        shares = {1 / (10 * 400) / 2, 1 / (10 * 400)} if orders > 1 else {1 / (10 * 400)}
        assert any(float(automaton.log_prob(row).exp()) == pytest.approx(share, rel=1e-9) for share in shares)
    for text in sums(5, n=20, generator=0):
        question, rationale, answer = text.split("\n")
        assert eval(question.removesuffix(" = ?")) == int(answer) == int(rationale.rsplit(" ", 1)[1])
        assert all(eval(step.replace("=", "==")) for step in rationale.split(", ")) and rationale.count("=") == 4
    assert list(sums(4, n=3, generator=1)) == list(sums(4, n=3, generator=1))


def test_fills_of_a_walk_are_bridges() -> None:
    """Between two known places all bridges are equally likely; they are counted by hand."""
    automaton = walk(places=8, noise=0.0)
    assert {fill.fills[0] for fill in automaton.given("ab[gap:1]d").sample(30, generator=0)} == {"c"}
    fills = automaton.given("a[gap:3]a").sample(4000, generator=0)
    bridges = {"bab", "bcb", "bah", "hab", "hah", "hgh"}
    counts = [[fill.fills[0] for fill in fills].count(bridge) for bridge in bridges]
    assert sum(counts) == 4000 and max(abs(count / 4000 - 1 / 6) for count in counts) < 0.03
    noisy = walk()
    assert float(noisy.log_prob(noisy.sample(noisy.given("a[gap:4]b").canvas, seeded(0)).tokens)) > -40


def test_rows_do_not_depend_on_their_neighbours() -> None:
    automaton = hmm(states=3, symbols=4)
    one, two = automaton.given("ab[gap:3]c").canvas, automaton.given("a[gap:2]bca.b").canvas
    batch = Canvas.stack([one, two], automaton.vocabulary.pad)
    alone = torch.cat([automaton.log_evidence(one), automaton.log_evidence(two)])
    assert torch.allclose(automaton.log_evidence(batch), alone)


def test_an_ngram_is_fitted_to_a_file(tmp_path) -> None:
    file = tmp_path / "stories.txt"
    file.write_text("a cat sat.\n<|endoftext|>\na cat ran.\n<|endoftext|>\n")
    automaton = world(f"ngram@{file}")
    assert automaton.name.startswith("3-gram")
    fills = automaton.given("a c[gap:2] sat.").sample(20, generator=0)
    assert float(automaton.given("a c[gap:2] sat.").log_prob("at").log_prob) > -1
    assert "at" in {fill.fills[0] for fill in fills}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: world("ngram@nowhere.txt"), "is no text file"),
        (
            lambda: world("nowhere"),
            "no world 'nowhere': expected one of hmm, walk, .*, arithmetic-4, ngram@FILE",
        ),
        (lambda: table({}), "texts with their weights"),
        (lambda: hmm(symbols=1000), "symbols is 1000, expected a whole number, 1 to 68"),
        (lambda: ngram([], symbol_tokenizer("ab.")), "expected some text"),
        (lambda: ngram(STORIES, symbol_tokenizer("abc."), order=20), "lower the order"),
        (lambda: arithmetic(1), "operands is 1, expected a whole number, 2 to 32"),
        (lambda: walk(2), "places is 2, expected a whole number, 3 to 68"),
        (lambda: hmm().simulate(3), "no distribution of lengths"),
        (lambda: hmm().with_policy("strided"), "needs no policy"),
        (lambda: grammar().given("Lily xyzed a hat.[gap:3]").sample(1), "cannot have written"),
    ],
)
def test_mistakes_get_one_clear_line(make, message) -> None:
    with pytest.raises(UserError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_tilted_world_by_its_name() -> None:
    found = world("hmm^mx=0.5")
    assert not found.normalised and found.name == "hmm of 8 states and 32 symbols, tilted"
    plain, tilted = world("grammar"), world("grammar^ very, mom=2")
    texts = (
        _ids(plain, "Tom lost a hat. He was very sad. Tom cried."),
        _ids(plain, "Tom lost a hat. He was sad. Tom cried."),
    )
    ratios = [float(tilted.log_prob(text) - plain.log_prob(text)) for text in texts]
    assert ratios[0] - ratios[1] == pytest.approx(2)
    for name, message in (("hmm^=1", "tilts no world"), ("hmm^mx", "tilts no world"), ("hmm^é=1", "has no token 'é'")):
        with pytest.raises(UserError, match=message):
            world(name)


def test_integers_and_modes_have_the_stated_probabilities() -> None:
    numbers = world("integers-alike")
    assert float(numbers.log_prob(_ids(numbers, "#100."))) == pytest.approx(-math.log(101))
    skewed = world("integers")
    ratio = skewed.log_prob(_ids(skewed, "#7.")) - skewed.log_prob(_ids(skewed, "#6."))
    assert float(ratio) == pytest.approx(math.log(0.9))
    few, all_ = world("modes-9"), world("modes")
    assert few.tokenizer.get_vocab() == all_.tokenizer.get_vocab()
    probs = [
        torch.cat([w.log_prob(_ids(w, f"#{3 * (a + b)}.")) for a in "abcde" for b in "abcde"]).exp()
        for w in (few, all_)
    ]
    assert (probs[0] > 0.1).sum() == 9 and float(probs[0].max() / probs[0].min()) == pytest.approx(math.exp(5))
    assert torch.allclose(probs[1], torch.full((25,), 0.04, dtype=torch.float64))


def _ids(automaton: ProbabilisticAutomaton, text: str) -> Tensor:
    return torch.tensor([[automaton.vocabulary.bos, *encode(automaton.tokenizer, text), automaton.vocabulary.eos]])
