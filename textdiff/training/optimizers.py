"""Optimizers for a transformer: which parameters decay, and which are matrices for Muon."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from textdiff.errors import UserError


class OptimizerFactory(ABC):
    """Makes the optimizer of a network.

    Raises:
        UserError: an option is out of range.
    """

    @abstractmethod
    def build(self, network: nn.Module) -> Optimizer:
        """The optimizer of all parameters of `network` that require a gradient."""


@final
@dataclass(frozen=True)
class AdamW(OptimizerFactory):
    """AdamW (arXiv:1711.05101); weight decay on matrices only, not on the scales of norms."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        _check(lr=self.lr, weight_decay=self.weight_decay, betas=self.betas)

    def build(self, network: nn.Module) -> Optimizer:
        parameters = [p for p in network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas)


@final
@dataclass(frozen=True)
class Muon(OptimizerFactory):
    """Muon (K. Jordan, 2024; `torch.optim.Muon`) for the blocks' matrices, AdamW for embeddings, head and norms.

    Not for FSDP, which shows an optimizer flat shards instead of matrices.

    Args:
        lr: of the matrices; updates are rescaled to the size of AdamW's (arXiv:2502.16982), so that its values suit.
        adam_lr: of the other parameters; by default `lr`.
        betas: of AdamW.
        weight_decay: on matrices.

    Raises:
        UserError: the network has no matrix (raised by `build`).
    """

    lr: float = 2e-3
    adam_lr: float | None = None
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        adam_lr = self.lr if self.adam_lr is None else self.adam_lr
        _check(lr=self.lr, adam_lr=adam_lr, weight_decay=self.weight_decay, betas=self.betas)

    def build(self, network: nn.Module) -> Optimizer:
        ends = {id(p) for m in network.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
        head = network.get_output_embeddings() if isinstance(network, PreTrainedModel) else None
        ends |= {id(p) for p in head.parameters()} if head is not None else set()
        parameters = [p for p in network.parameters() if p.requires_grad]
        matrices = [p for p in parameters if p.ndim == 2 and id(p) not in ends]
        if not matrices:
            raise UserError("Muon found no matrix: under FSDP, which shows shards of them, use textdiff.training.AdamW")
        rest = [p for p in parameters if p.ndim != 2 or id(p) in ends]
        muon = torch.optim.Muon(matrices, lr=self.lr, weight_decay=self.weight_decay, adjust_lr_fn="match_rms_adamw")
        adam = torch.optim.AdamW(
            rest, lr=self.lr if self.adam_lr is None else self.adam_lr, betas=self.betas, weight_decay=0.0
        )
        return CombinedOptimizer(muon, adam)


def _check(*, betas: Sequence[float], **values: float) -> None:
    """Check the options of an optimizer.

    Raises:
        UserError: one is out of range.
    """
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise UserError(f"model.optimizer.{name} is {value}, expected a number, 0 or more")
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise UserError(f"model.optimizer.betas is {list(betas)}, expected two numbers from 0 to below 1")


def scheduled(optimizer: Optimizer, steps: float, warmup: int, final: float) -> OptimizerLRSchedulerConfig:
    """Linear warm-up over `warmup` steps, then a cosine down to the share `final` at step `steps`, for Lightning.

    Raises:
        UserError: `steps` is infinite, `warmup` is negative or `final` no share.
    """
    if warmup < 0 or not 0 <= final <= 1:
        raise UserError(f"model.warmup_steps is {warmup}, expected 0 or more, and model.final_lr {final}, from 0 to 1")
    if math.isinf(steps):
        raise UserError("the stream of training batches has no end: set trainer.max_steps")

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    scheduler: LRSchedulerConfigType = {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}
    return {"optimizer": optimizer, "lr_scheduler": scheduler}


@final
class CombinedOptimizer(Optimizer):
    """Several optimizers of disjoint parameters that step as one, also for schedulers and checkpoints.

    `param_groups` holds the dictionaries of the parts themselves: a learning rate set here is theirs, too.
    """

    def __init__(self, *optimizers: Optimizer) -> None:
        self.optimizers = optimizers
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})

    def step(self, closure: Callable[[], float | Tensor] | None = None) -> float | Tensor | None:  # type: ignore[override]
        """Evaluate `closure` once, then step each part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of each part."""
        return {"parts": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore each part."""
        for optimizer, state in zip(self.optimizers, state_dict["parts"], strict=True):
            optimizer.load_state_dict(state)
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
