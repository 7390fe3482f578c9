"""The configuration: what it accepts and refuses, saved and loaded."""

import pytest
from transformers import AutoConfig

from tests.helpers.networks import PAD, config
from textdiff.errors import UserError
from textdiff.models import Transformer, TransformerConfig


@pytest.mark.parametrize("changes", [{}, {"causal": True, "tie_word_embeddings": False}, {"attention": "full"}])
def test_round_trips(changes, tmp_path):
    saved = config(rope_theta=500.0, dropout=0.25, intermediate_size=24, **changes)
    saved.save_pretrained(tmp_path)
    for loaded in (
        TransformerConfig.from_pretrained(tmp_path),
        AutoConfig.from_pretrained(tmp_path),
        TransformerConfig.from_dict(saved.to_dict()),
    ):
        assert type(loaded) is TransformerConfig
        assert loaded.to_diff_dict() == saved.to_diff_dict()
        assert {name: getattr(loaded, name) for name in changes} == changes


def test_defaults_make_a_network_but_for_the_special_tokens():
    default = TransformerConfig()
    assert default.intermediate_size == 688  # 8/3 of 256, rounded up to a multiple of 16
    assert default.pad_token_id is default.null_token_id is None
    assert default.tie_word_embeddings


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"hidden_size": 18, "num_attention_heads": 4}, "hidden_size 18 is not a multiple of 2 x num_attention_heads"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers is 2.5"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"intermediate_size": 0}, "intermediate_size is 0"),
        ({"max_position_embeddings": 0}, "max_position_embeddings is 0"),
        ({"attention": "sideways"}, "attention is 'sideways', expected one of isolated, full"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"rope_theta": 0.0}, "rope_theta is 0.0"),
        ({"mask_token_id": 17}, "mask_token_id is 17, outside a vocabulary of 17"),
        ({"null_token_id": -1}, "null_token_id is -1"),
        ({"hiden_size": 16}, "no setting 'hiden_size'"),
    ],
)
def test_impossible_settings_are_refused(changes, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        config(**changes)
    assert "\n" not in str(error.value)


def test_a_denoiser_needs_a_mask():
    with pytest.raises(UserError, match="mask_token_id is None"):
        Transformer(config(mask_token_id=None))
    Transformer(config(mask_token_id=None, causal=True))


def test_a_token_id_of_none_is_not_forbidden():
    assert PAD in config().forbidden
    assert None not in config(pad_token_id=None).forbidden
    assert config(bos_token_id=None, eos_token_id=None, pad_token_id=None).forbidden == [config().mask_token_id]
