"""The causal network is a model that others know, too."""

import torch

from tests.helpers.networks import network, tokens
from textdiff.models.export import as_qwen


def test_the_logits_of_the_same_weights_as_a_qwen3_are_ours() -> None:
    net = network(dtype=torch.float32, causal=True, max_position_embeddings=64)
    ids = tokens(3, 20)
    with torch.no_grad():
        torch.testing.assert_close(as_qwen(net)(ids).logits, net.logits(ids), rtol=1e-4, atol=1e-4)
