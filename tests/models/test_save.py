"""Weights on disk: bit for bit what they were, loaded by the Auto classes too, in safetensors only."""

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel

from tests.helpers.networks import MASK, network, tokens
from textdiff.models import Transformer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("loader", [Transformer, AutoModel])
def test_a_saved_network_comes_back_bit_for_bit(loader, tied, dtype, tmp_path):
    saved = network(dtype=dtype, tie_word_embeddings=tied)
    saved.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    loaded = loader.from_pretrained(tmp_path)
    assert type(loaded) is Transformer
    assert loaded.dtype is dtype
    assert not loaded.training
    assert loaded.state_dict().keys() == saved.state_dict().keys()
    assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in saved.state_dict().items())
    assert (loaded.head.weight is loaded.embedding.weight) == tied
    canvas = tokens(2, 6).index_fill(1, torch.tensor([2, 3]), MASK)
    assert torch.equal(*(net.log_probs(canvas, canvas != MASK) for net in (loaded, saved)))


def test_the_names_on_disk_stay(tmp_path):
    network(num_hidden_layers=1).save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
    block = ("attention_norm", "qkv", "query_norm", "key_norm", "out", "feed_norm", "gate_up", "down")
    ends = {"embedding.weight", "norm.weight", "following.weight"}
    assert names == ends | {f"blocks.0.{part}.weight" for part in block}


def test_a_denoiser_starts_from_the_weights_of_a_causal_network(tmp_path):
    causal = network(dtype=torch.float32, causal=True)
    causal.save_pretrained(tmp_path)
    denoiser = Transformer.from_pretrained(tmp_path, causal=False)
    assert not denoiser.config.causal
    assert all(torch.equal(weight, denoiser.state_dict()[name]) for name, weight in causal.state_dict().items())
    assert not denoiser.following.weight.any()


def test_loading_does_not_touch_the_global_random_numbers(tmp_path):
    network().save_pretrained(tmp_path)
    state = torch.get_rng_state()
    Transformer.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
