"""Two processes (gloo, CPU) that share a network out by blocks learn what one process with all of it learns.

Lightning's strategy of configs/strategy/fsdp.yaml refuses a CPU, so this wraps the network as it does: by torch.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.fsdp import FullyShardedDataParallel as Sharded
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.nn.functional import cross_entropy

from tests.models.networks import MASK, network, tokens
from textdiff.models import Transformer
from textdiff.models.transformer import Block

STEPS = 4


def learnt(wrap: Any, rank: int, world_size: int, recompute: bool) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and weights after some steps of AdamW on this process's part of batches of four rows."""
    net: Transformer = network()
    if recompute:
        net.checkpoint_activations()
    model: nn.Module = wrap(net.train())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for step in range(STEPS):
        own = tokens(4, 12, seed=step).chunk(world_size)[rank]
        masked = torch.arange(12) % 3 > 0
        logits = model(own.masked_fill(masked, MASK))
        loss = cross_entropy(logits[:, masked].flatten(0, 1), own[:, masked].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.state_dict()


def process(rank: int, folder: str, recompute: bool) -> None:
    """One of two processes; it writes what it has learnt."""
    torch.set_num_threads(1)
    init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        wrap = partial(Sharded, auto_wrap_policy=ModuleWrapPolicy({Block}), device_id=torch.device("cpu"))
        found = learnt(wrap, rank, 2, recompute)  # a collective: the whole weights come from both
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
def test_two_processes_with_parts_of_a_network_learn_what_one_learns(recompute: bool, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(process, (str(tmp_path), recompute), nprocs=2)
    losses, weights = learnt(lambda whole: whole, 0, 1, recompute=False)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [sum(both) / 2 for both in zip(*(part[0] for part in parts), strict=True)] == pytest.approx(losses, rel=1e-9)
    for _, found in parts:
        assert found.keys() == weights.keys()
        for name, value in weights.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)
