"""AdamW and Muon: which parameters go where, and that two optimizers behave as one."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from textdiff.errors import UserError
from textdiff.models import Transformer, TransformerConfig
from textdiff.training import AdamW, Muon, OptimizerFactory
from textdiff.training.optimizers import CombinedOptimizer

FACTORIES = [AdamW(lr=0.01), Muon(lr=0.02, adam_lr=0.01)]


def network(**options: object) -> Transformer:
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    return Transformer(TransformerConfig(vocab_size=20, mask_token_id=19, **shape, **options))


def backward(model: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, a, b))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: type(factory).__name__)
def test_every_parameter_is_in_one_group(factory: OptimizerFactory, tied: bool) -> None:
    model = network(tie_word_embeddings=tied)
    grouped = [id(p) for group in factory.build(model).param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_norms_do_not_decay_under_adamw() -> None:
    groups = AdamW(weight_decay=0.3).build(network()).param_groups
    assert [{p.ndim >= 2 for p in group["params"]} for group in groups] == [{True}, {False}]
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]


@pytest.mark.parametrize("tied", [True, False])
def test_muon_takes_the_matrices_between_embedding_and_head(tied: bool) -> None:
    model = network(tie_word_embeddings=tied)
    optimizer = Muon(lr=0.02, adam_lr=0.01).build(model)
    assert isinstance(optimizer, CombinedOptimizer)
    muon, adam = optimizer.optimizers
    assert isinstance(muon, torch.optim.Muon) and isinstance(adam, torch.optim.AdamW)
    ends = {id(model.embedding.weight), id(model.head.weight)}
    expected = {id(p) for p in model.parameters() if p.ndim == 2} - ends
    assert {id(p) for p in muon.param_groups[0]["params"]} == expected
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.01]
    assert [group["lr"] for group in Muon(lr=0.02).build(model).param_groups] == [0.02, 0.02]


def test_a_network_without_matrices_is_refused() -> None:
    with pytest.raises(UserError, match=r"use textdiff\.training\.AdamW"):
        Muon().build(nn.RMSNorm(4))


def test_a_combined_optimizer_steps_like_its_parts() -> None:
    ours, theirs = network(), network()
    optimizer = Muon(lr=0.02).build(ours)
    muon, adam = Muon(lr=0.02).build(theirs).optimizers
    start = weights(ours)
    for step in range(3):
        backward(ours, step)
        backward(theirs, step)
        optimizer.step()
        muon.step()
        adam.step()
    assert same(weights(ours), weights(theirs))
    assert not any(map(torch.equal, weights(ours), start)), "every parameter moves"


def test_a_combined_optimizer_evaluates_a_closure_once() -> None:
    model = network()
    optimizer, calls = Muon().build(model), []

    def closure() -> float:
        assert torch.is_grad_enabled()
        backward(model)
        calls.append(1)
        return 7.0

    with torch.no_grad():
        assert optimizer.step(closure) == 7.0
    assert calls == [1]


def test_gradients_of_all_parts_are_reset() -> None:
    model = network()
    backward(model)
    Muon().build(model).zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: type(factory).__name__)
def test_a_scheduler_acts_on_every_group_and_after_a_round_trip(factory: OptimizerFactory) -> None:
    model = network()
    optimizer = factory.build(model)
    first = [group["lr"] for group in optimizer.param_groups]
    scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
    for _ in range(2):
        backward(model)
        optimizer.step()
        scheduler.step()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    scheduler.step()
    parts = optimizer.optimizers if isinstance(optimizer, CombinedOptimizer) else [optimizer]
    for groups in (optimizer.param_groups, [group for part in parts for group in part.param_groups]):
        assert [group["lr"] for group in groups] == pytest.approx([lr / 8 for lr in first])


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: type(factory).__name__)
def test_state_comes_back_to_the_last_bit(factory: OptimizerFactory, tmp_path: object) -> None:
    def steps(model: nn.Module, step: Callable[[], object], first: int) -> None:
        for seed in range(first, first + 3):
            backward(model, seed)
            step()

    model = network()
    optimizer = factory.build(model)
    steps(model, optimizer.step, 0)
    torch.save({"weights": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{tmp_path}/state")
    steps(model, optimizer.step, 3)

    saved = torch.load(f"{tmp_path}/state", weights_only=True)
    other = network()
    other.load_state_dict(saved["weights"])
    resumed = factory.build(other)
    resumed.load_state_dict(saved["optimizer"])
    steps(other, resumed.step, 3)
    assert same(weights(model), weights(other))
