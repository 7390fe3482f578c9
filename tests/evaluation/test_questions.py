"""Accuracy of answers: of greedy decoding, of the majority, and of single samples."""

import pytest

from tests.helpers.tiny import tiny
from textdiff.errors import UserError
from textdiff.evaluation.questions import answer_questions
from textdiff.priors import DiffusionPrior
from textdiff.worlds import arithmetic, sums


@pytest.fixture(scope="module")
def world():
    return arithmetic(largest=2)


def test_a_perfect_network_is_right_and_wrong_references_are_counted_as_errors(world) -> None:
    perfect = DiffusionPrior(world, world.tokenizer, world.vocabulary).with_policy("left-to-right")
    texts = list(sums(3, 2, n=3, generator=0))
    found = answer_questions(perfect, texts, votes=3)
    assert (found.greedy.value, found.majority.value, found.sample.value, found.wrong) == (1, 1, 1, ())
    assert "| | 100.0 [100.0, 100.0] |" in str(found) and '"votes": 3' in found.json()
    changed = [f"{text}1" for text in texts]
    wrong = answer_questions(perfect, changed, votes=2)
    assert wrong.majority.value == 0 and [case[1] for case in wrong.wrong] == [
        text.split("\n")[2] + "1" for text in texts
    ]
    direct = answer_questions(
        perfect, [text.split("\n")[0] + "\n" + text.split("\n")[2] for text in texts[:1]], votes=1
    )
    assert direct.greedy.value == 1


def test_an_autoregressive_prior_continues_the_question(world) -> None:
    baseline = tiny(world.tokenizer, causal=True)
    found = answer_questions(baseline, list(sums(3, 2, n=2, generator=0)), votes=3)
    assert found.questions == 2 and 0 <= found.greedy.value <= 1
    rows = baseline.simulate(3, 0, 20, "1 + 2 = ?\n")
    assert all(baseline.tokenizer.decode(row, skip_special_tokens=True).startswith("1 + 2 = ?\n") for row in rows)
    assert baseline.simulate(3, 0, 20, "1 + 2 = ?\n").tolist() == rows.tolist()
    with pytest.raises(UserError, match="a text at most 4: shorten"):
        baseline.simulate(1, 0, 4, "1 + 2 = ?\n")


def test_mistakes(world) -> None:
    perfect = DiffusionPrior(world, world.tokenizer, world.vocabulary)
    with pytest.raises(UserError, match="there is no question"):
        answer_questions(perfect, [])
    with pytest.raises(UserError, match="text 1 has one line"):
        answer_questions(perfect, ["1 + 1 = ?"])
