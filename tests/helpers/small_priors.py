"""Fixtures: small priors with random weights, and a guard against network connections."""

import socket
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from textdiff.models import Transformer, TransformerConfig
from textdiff.posterior import Prior
from textdiff.pretrained import prior_of
from textdiff.text import Vocabulary, train_tokenizer

CORPUS = [
    "Lily lost her red ball. She was very sad. Then her friend Tom came and helped her. They found the red ball.",
    "Tom had a big dog. The dog ran to the park. Tom ran after the dog. They were happy again.",
] * 3


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(CORPUS, 330)


@pytest.fixture(scope="session")
def network(tokenizer: PreTrainedTokenizerFast) -> Callable[..., Transformer]:
    """Builds networks for the tokenizer, with weights that are large enough for every path to matter."""
    vocabulary = Vocabulary.of(tokenizer)
    special = vocabulary.special_ids()

    def build(causal: bool = False, **changes: int) -> Transformer:
        torch.manual_seed(0)
        shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 128}
        net = Transformer(TransformerConfig(vocab_size=vocabulary.size, causal=causal, **special | shape | changes))
        with torch.no_grad():
            for weight in net.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
        return net.eval()

    return build


@pytest.fixture(scope="session")
def diffusion(network: Callable[..., Transformer], tokenizer: PreTrainedTokenizerFast) -> Prior:
    return prior_of(network(), tokenizer)


@pytest.fixture(scope="session")
def autoregressive(network: Callable[..., Transformer], tokenizer: PreTrainedTokenizerFast) -> Prior:
    return prior_of(network(causal=True), tokenizer)


@pytest.fixture(params=["diffusion", "autoregressive"])
def prior(request: pytest.FixtureRequest) -> Prior:
    """A diffusion prior, then an autoregressive one."""
    built: Prior = request.getfixturevalue(request.param)
    return built


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test at any attempt to reach another machine."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a checkpoint in a folder needs no network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
