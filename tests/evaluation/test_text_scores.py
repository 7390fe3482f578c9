"""Scores by a model of the user: a tiny encoder with random weights is enough to check bounds and order."""

import pytest
from transformers import BertConfig, BertModel

from tests.helpers.tiny import CORPUS
from textdiff.errors import UserError
from textdiff.evaluation import BertScore, Mauve
from textdiff.text import train_tokenizer


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("encoder"), train_tokenizer(CORPUS, 320)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **shape)).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_bert_score_is_one_only_for_the_same_text(encoder):
    same, other, empty = BertScore(encoder)(
        ["Tom lost her ball.", "Mia saw a dog and was happy.", ""], ["Tom lost her ball.", "Tom lost her ball.", "Tom."]
    )
    assert same == pytest.approx(1, abs=1e-5) and other < 0.999 and empty == 0
    assert BertScore(encoder)(["", ""], ["a", "b"]) == [0, 0]


def test_bert_score_agrees_with_its_formula(encoder):
    """Greedy matches of cosine similarities, computed by hand from the encoder's states."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(encoder).eval(), AutoTokenizer.from_pretrained(encoder)
    fill, truth = "Tom lost her dog.", "Mia saw a boat."
    with torch.no_grad():
        states = [
            model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).last_hidden_state[0]
            for text in (fill, truth)
        ]
    a, b = (torch.nn.functional.normalize(x, dim=-1)[1:-1] for x in states)  # its ends are left out as special
    likeness = a @ b.T
    precision, recall = likeness.amax(dim=1).mean(), likeness.amax(dim=0).mean()
    expected = float(2 * precision * recall / (precision + recall))
    assert BertScore(encoder)([fill], [truth])[0] == pytest.approx(expected, abs=1e-4)


def test_mauve_is_lower_for_other_texts(encoder):
    score = Mauve(encoder, clusters=4)
    [same] = score(CORPUS, CORPUS)
    [other] = score(["".join(reversed(text)) for text in CORPUS], CORPUS)
    assert same > 0.9 > other >= 0


@pytest.mark.parametrize(
    "score", [BertScore("no/where/at/all"), Mauve("no/where/at/all"), BertScore("no/where/at/all", layers=3)]
)
def test_an_unknown_model_is_refused(score):
    with pytest.raises(UserError, match="no model at 'no/where/at/all'"):
        score(["a"], ["b"])


def test_an_unknown_layer_is_refused(encoder):
    with pytest.raises(UserError, match="layers is 3"):
        BertScore(encoder, layers=3)(["a"], ["b"])
