"""Two processes (gloo, CPU) that share a network out by layers learn what one process with all of it learns.

Lightning's strategy of configs/strategy/fsdp.yaml refuses a CPU, so this wraps the network as it does: by torch.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed import barrier, destroy_process_group, init_process_group
from torch.distributed.fsdp import FullyShardedDataParallel as Sharded
from torch.nn.functional import cross_entropy
from transformers.modeling_outputs import MaskedLMOutput

from tests.helpers.foreign_models import CAUSAL, DIFFUSION, MASKED, checkpoint
from tests.helpers.networks import MASK, network, tokens
from textdiff.models import ForeignDenoiser, Transformer
from textdiff.pretrained import convert, load
from textdiff.training import RepeatedLayers

STEPS = 4


class InOnePass(nn.Module):
    """An order-causal network as training calls it."""

    def __init__(self, net: Transformer) -> None:
        super().__init__()
        self.net, self.config = net, net.config

    def forward(self, canvas: Tensor) -> MaskedLMOutput:
        """Logits of the masked positions of canvases `[batch, length]`, zero elsewhere."""
        masked, one = canvas == MASK, torch.ones_like(canvas)
        positions = torch.arange(canvas.shape[1]).expand_as(canvas)
        states = self.net.ordered_states(canvas, masked.long(), ~masked, masked, one, positions)
        logits = states.new_zeros(*canvas.shape, self.config.vocab_size)
        return MaskedLMOutput(logits=logits.masked_scatter(masked[..., None], self.net.head(states)))


def tiny(kind: str, folder: Path) -> Transformer | ForeignDenoiser | InOnePass:
    """Ours, with or without its activations kept, or a tiny network of others, in double precision."""
    if kind.startswith("ours"):
        net = network(attention="order-causal" if "order-causal" in kind else "isolated")
        if "recomputed" in kind:
            net.checkpoint_activations()
        return InOnePass(net.train()) if net.ordered else net.train()
    if not (folder / kind).is_dir():
        checkpoint(kind, folder / kind)
    prior = convert(folder / kind) if kind in CAUSAL else load(folder / kind)
    assert isinstance(prior.network, ForeignDenoiser)
    return prior.network.double()


def parts(model: nn.Module) -> list[nn.Module]:
    """The modules that are parts of their own in a network that was wrapped."""
    return [module.module for module in model.modules() if isinstance(module, Sharded)]


def learnt(wrap: Any, rank: int, world_size: int, kind: str, folder: Path) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and weights after some steps of AdamW on this process's part of batches of four rows."""
    net = tiny(kind, folder)
    foreign = isinstance(net, ForeignDenoiser)
    depth = net.backbone.config.num_hidden_layers if foreign else net.config.num_hidden_layers
    mask = net.config.mask_token_id if foreign else MASK
    model: nn.Module = wrap(net)
    assert world_size == 1 or (len({type(part) for part in parts(model)[1:]}) == 1 and len(parts(model)) == 1 + depth)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for step in range(STEPS):
        own = tokens(4, 12, seed=step).chunk(world_size)[rank]
        masked = torch.arange(12) % 3 > 0
        logits = model(own.masked_fill(masked, mask)).logits
        loss = cross_entropy(logits[:, masked].flatten(0, 1), own[:, masked].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.state_dict()


def process(rank: int, folder: str, kind: str) -> None:
    """One of two processes; it writes what it has learnt."""
    torch.set_num_threads(1)
    init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        wrap = partial(Sharded, auto_wrap_policy=RepeatedLayers(), device_id=torch.device("cpu"))
        found = learnt(wrap, rank, 2, kind, Path(folder))  # a collective: the whole weights come from both
        torch.save(found, Path(folder) / f"{rank}.pt")
        barrier()  # neither process leaves while the other still talks to it
    finally:
        destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ours", "ours, recomputed", "ours, order-causal", *CAUSAL])
def test_two_processes_with_parts_of_a_network_learn_what_one_learns(kind: str, tmp_path: Path) -> None:
    losses, weights = learnt(lambda whole: whole, 0, 1, kind, tmp_path)
    torch.multiprocessing.spawn(process, (str(tmp_path), kind), nprocs=2)
    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [sum(pair) / 2 for pair in zip(*(part[0] for part in both), strict=True)] == pytest.approx(losses, rel=1e-9)
    assert losses[-1] < losses[0]
    for _, found in both:
        assert found.keys() == weights.keys()
        for name, value in weights.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["ours", *DIFFUSION, *MASKED, *CAUSAL])
def test_a_part_is_a_layer_of_whichever_network(kind: str, tmp_path: Path) -> None:
    net, policy, found = tiny(kind, tmp_path), RepeatedLayers(), []

    def ask(module: nn.Module) -> None:  # in the order of torch
        if policy(module, recurse=True, nonwrapped_numel=0):
            for child in module.children():
                ask(child)
        if policy(module, recurse=False, nonwrapped_numel=0):
            found.append(module)

    ask(nn.Sequential(net))
    depth = net.config.num_hidden_layers if isinstance(net, Transformer) else net.backbone.config.num_hidden_layers
    assert len(found) == depth and len({type(layer) for layer in found}) == 1
    within = {id(weight) for layer in found for weight in layer.parameters()}
    outside = [weight for weight in net.parameters() if id(weight) not in within]
    assert all(weight.ndim == 1 or net.config.hidden_size in weight.shape for weight in outside)
