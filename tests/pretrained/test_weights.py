"""Weights are brought to their device one by one, and memory is taken for what the file holds alone."""

import json
import weakref

import pytest
import torch

from tests.helpers.foreign_models import GOLDEN, denoiser, golden, shard
from tests.helpers.networks import network
from textdiff.errors import UserError
from textdiff.models import FAMILIES, ForeignConfig, ForeignDenoiser, Transformer
from textdiff.pretrained.weights import Weights, load_weights


def test_shards_hold_what_the_whole_file_held(tmp_path):
    folder = golden("llada", tmp_path / "llada")
    whole = dict(Weights(folder))
    shards = Weights(shard(folder))
    assert len(list(folder.glob("model-*.safetensors"))) == 3
    assert shards.keys() == whole.keys()
    assert all(torch.equal(weight, shards[name]) for name, weight in whole.items())


@pytest.mark.parametrize("kind", ["llada", "mdlm"])
def test_a_weight_is_not_held_twice(kind, tmp_path):
    alive = weakref.WeakSet()
    most = 0

    class Watched(dict):
        def __getitem__(self, name):
            nonlocal most
            read = weights[name].clone()
            alive.add(read)
            most = max(most, len(alive))
            return read

    folder = golden(kind, tmp_path / kind)
    weights = Weights(folder)
    family = FAMILIES[kind]
    settings = json.loads((GOLDEN / f"{kind}_config.json").read_text())
    with torch.device("meta"):
        made = ForeignDenoiser(ForeignConfig(backbone=family.backbone(settings)))
    watched = Watched(dict.fromkeys(weights))
    load_weights(made, ((f"backbone.{n}", w) for n, w in family.weights(watched)), folder, "cpu", torch.bfloat16)
    assert most <= 5  # of 21, or of 29
    assert {weight.dtype for weight in made.parameters()} == {torch.bfloat16}


def test_computed_buffers_keep_their_precision():
    for kind in ("llama", "modernbert", "bert"):
        small, large = denoiser(kind, torch.bfloat16), denoiser(kind)
        buffers = dict(large.named_buffers())
        assert buffers
        assert all(torch.equal(value, buffers[name]) for name, value in small.named_buffers())


def test_memory_is_taken_for_the_file_and_not_for_the_shape_in_the_config(tmp_path):
    written = network(dtype=torch.float32)
    config = written.config
    config.intermediate_size = 2**40  # four blocks of a terabyte: it would fail, or take the machine down
    with torch.device("meta"):
        claimed = Transformer(config)
    with pytest.raises(UserError, match="does not fit"):
        load_weights(claimed, written.state_dict().items(), tmp_path, "cpu", torch.float32)
