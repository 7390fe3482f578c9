"""N-gram scores: golden numbers of nltk 3.9 (BLEU with smoothing method 1, GLEU) and rouge-score 0.1.2."""

import math

import pytest

from textdiff.evaluation import distinct, rouge_l, self_bleu, sentence_bleu, sentence_gleu

GOLDEN = [
    ("she was very happy with her ball", "she was happy and played with her ball", 0.1865117667, 0.3846153846, 0.8),
    ("the dog ran", "the dog ran", 0.5623413252, 1.0, 1.0),
    ("a b", "the dog ran home", 0.0, 0.0, 0.0),
    (
        "they went to the park to play",
        "they went to the big park and played all day long",
        0.2454947544,
        0.2894736842,
        0.5555555556,
    ),
    ("the the the the", "the cat sat on the mat", 0.0579505347, 0.1111111111, 0.4),
]


@pytest.mark.parametrize("candidate, reference, bleu, gleu, rouge", GOLDEN)
def test_golden(candidate: str, reference: str, bleu: float, gleu: float, rouge: float) -> None:
    assert sentence_bleu(candidate, reference) == pytest.approx(bleu, abs=1e-9)
    assert sentence_gleu(candidate, reference) == pytest.approx(gleu, abs=1e-9)
    assert rouge_l(candidate, reference) == pytest.approx(rouge, abs=1e-9)


def test_empty_texts_score_zero() -> None:
    for score in (sentence_bleu, sentence_gleu, rouge_l):
        assert score("", "the dog") == score("the dog", "") == score("", "") == 0


def test_variety() -> None:
    assert distinct(["a b c", "a b d"]) == 3 / 4 and distinct(["", "a"]) == 0
    assert self_bleu(["a b c d", "a b c d"]) == 1 and self_bleu(["a b c d", "e f g h"]) == 0
    assert math.isnan(self_bleu(["a"]))
