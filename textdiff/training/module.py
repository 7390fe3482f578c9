"""What pretraining and fine-tuning share: the loss, held-out metrics, the optimizer and checkpoints."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.data import TextDataModule
from textdiff.errors import UserError
from textdiff.models import ForeignDenoiser, Transformer, causal_visibility, denoising_visibility
from textdiff.posterior import Denoises, Prior
from textdiff.pretrained import prior_of
from textdiff.samplers import Strided
from textdiff.text import Vocabulary
from textdiff.training.checkpoints import check_checkpoint, describe_network
from textdiff.training.metrics import BitsPerCharacter, NatsPerToken
from textdiff.training.optimizers import OptimizerFactory, scheduled

GAP_POLICY = Strided(8)
"""How a denoiser fills the held-out gaps on which it is measured in training."""


class TrainingModule(lightning.LightningModule, ABC):
    """Trains a network as a masked diffusion prior or, if it is causal, as an autoregressive prior.

    The loss is the sum of weight x cross-entropy over the number of maskable tokens, both of all devices: nats per
    token. Only positions that carry a weight reach the head.

    Logged: `train/loss`; `valid/nats_per_token` and `valid/bits_per_character` (a bound for a denoiser, exact for a
    causal network); `valid/gap_nats`, the exact -log q per token of held-out gaps (a denoiser takes 8 strided steps, a
    causal network sees the prefix only).

    Args:
        network: to train.
        tokenizer: of the network and the data.
        optimizer: AdamW or Muon.
        warmup_steps: of linear warm-up, before a cosine.
        final_lr: the last learning rate, as a share of the largest.
        opening_steps: over so many steps of training a denoiser starts to attend to later positions, at random to a
            growing share of them (arXiv:2410.17891); 0: to all of them from the start.
        seed: of dropout.

    Raises:
        UserError: a number is out of range.
    """

    def __init__(
        self,
        network: Transformer | ForeignDenoiser,
        tokenizer: PreTrainedTokenizerBase,
        optimizer: OptimizerFactory,
        *,
        warmup_steps: int,
        final_lr: float,
        opening_steps: int,
        seed: int,
    ) -> None:
        super().__init__()
        if opening_steps < 0:
            raise UserError(f"model.opening_steps is {opening_steps}, expected 0 or more")
        self.network, self.tokenizer, self.vocabulary = network, tokenizer, Vocabulary.of(tokenizer)
        self.optimizer, self.warmup_steps, self.final_lr = optimizer, warmup_steps, final_lr
        self.opening_steps, self.seed = opening_steps, seed
        self.nats, self.bits, self.gap_nats = NatsPerToken(), BitsPerCharacter(), NatsPerToken()
        self._gradients: dict[str, Tensor] = {}

    @abstractmethod
    def check_data(self, data: TextDataModule) -> None:
        """Check that the data suit the network.

        Raises:
            UserError: they do not; the message names the options that do not fit.
        """

    @property
    def ordered(self) -> bool:
        """Whether the network is order-causal."""
        return isinstance(self.network, Transformer) and self.network.ordered

    @property
    def prior(self) -> Prior:
        """The network as it stands, as a prior that fills gaps."""
        return prior_of(self.network, self.tokenizer, self.vocabulary)

    def setup(self, stage: str) -> None:
        """Check the data before the run starts."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.ordered and self.opening_steps:
            raise UserError(
                f"model.opening_steps is {self.opening_steps}, and an order-causal network never sees later positions "
                "that are not revealed: leave it 0"
            )
        if isinstance(data, TextDataModule):
            if data.corruption.ordered and not self.ordered:
                raise UserError(
                    "data.corruption has orders, which are for order-causal networks: leave orders empty, or set "
                    "model.network.attention to order-causal"
                )
            self.check_data(data)

    def attention_mask(self, batch: dict[str, Tensor]) -> Tensor:
        """Which position attends to which, bool `[batch, length, length]`."""
        config, causal = self.network.config, causal_visibility(batch["segments"])
        if config.causal:
            return causal
        visible = denoising_visibility(batch["segments"], batch["observed"], config.attention)
        if self.training and self.global_step < self.opening_steps:
            opened = torch.rand(visible.shape, device=visible.device) < self.global_step / self.opening_steps
            visible = visible & (opened | causal)
        return visible

    def cross_entropy(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Cross-entropy in nats where the weight is positive, and these weights: two `[positions]` float32 tensors."""
        config, weighted = self.network.config, batch["weights"] > 0
        if self.ordered:
            assert isinstance(self.network, Transformer)
            states = self.network.ordered_states(
                batch["tokens"],
                batch["times"],
                (batch["segments"] > 0) & ~batch["nullable"],
                weighted,
                batch["segments"],
                batch["positions"],
            )
        else:
            states = self.network.hidden(batch["canvas"], self.attention_mask(batch), batch["positions"])
            states = states[:, :-1][weighted[:, 1:]] if config.causal else states[weighted]
        logits = self.network.head(states).float()
        logits = logits.masked_fill(self.network.forbidden_mask(logits.device), -math.inf)
        if not config.causal and config.null_token_id is not None:
            logits[:, config.null_token_id] = logits[:, config.null_token_id].masked_fill(
                ~batch["nullable"][weighted], -math.inf
            )
        return F.cross_entropy(logits, batch["tokens"][weighted], reduction="none"), batch["weights"][weighted]

    def on_fit_start(self) -> None:
        """Print the number of parameters."""
        rank_zero_info(f"{self.network.num_parameters():,} parameters")

    def on_train_start(self) -> None:
        """Restore the gradients of a checkpoint that was saved between two optimizer steps."""
        for name, parameter in self.named_parameters():
            if name in self._gradients:
                parameter.grad = self._gradients[name].to(parameter.device)
        self._gradients = {}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Key dropout by (seed, batch, rank), so that a resumed run repeats it."""
        done = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
        key = np.random.SeedSequence((self.seed, done, self.global_rank)).generate_state(1, np.uint64)
        torch.manual_seed(int(key[0]))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Weighted cross-entropy in nats per maskable token, of the batch of all devices."""
        losses, weights = self.cross_entropy(batch)
        nats = (losses * weights).sum()
        maskable = (~batch["observed"] | (batch["weights"] > 0)).sum()
        totals = self.trainer.strategy.reduce(torch.stack((nats.detach(), maskable.to(nats))), reduce_op="sum")
        assert isinstance(totals, Tensor)
        count = totals[1].clamp(min=1)
        self.log("train/loss", totals[0] / count, prog_bar=True)
        return nats * (self.trainer.world_size / count)  # gradients are averaged over the devices

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Loader 0: likelihood of whole texts. Loader 1: exact -log q of held-out gaps."""
        if dataloader_idx == 0:
            losses, weights = self.cross_entropy(batch)
            scored = batch["tokens"][(batch["weights"] > 0) if self.network.config.causal else ~batch["observed"]]
            self.nats.update(losses * weights, scored.numel())
            self.bits.update(losses * weights, self.vocabulary.characters.to(scored.device)[scored].sum())
        else:
            canvas, tokens = batch
            prior = self.prior
            if isinstance(prior, Denoises):
                prior = prior.with_policy(GAP_POLICY)
            log_q = prior.score(canvas, tokens).log_q
            assert log_q is not None
            self.gap_nats.update(-log_q, canvas.slots.sum())

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Log the held-out metrics."""
        self._log_held_out("valid")

    def on_test_epoch_end(self) -> None:
        """Log the held-out metrics."""
        self._log_held_out("test")

    def _log_held_out(self, stage: str) -> None:
        named = {"nats_per_token": self.nats, "bits_per_character": self.bits, "gap_nats": self.gap_nats}
        for name, metric in named.items():
            if metric.update_called:
                self.log(f"{stage}/{name}", metric.compute(), prog_bar=True, sync_dist=True)
            metric.reset()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer, with linear warm-up and a cosine down to `final_lr` at the trainer's last step.

        Raises:
            UserError: the trainer has no last step.
        """
        steps = self.trainer.estimated_stepping_batches
        return scheduled(self.optimizer.build(self.network), steps, self.warmup_steps, self.final_lr)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what `export` needs beside the weights and, between two optimizer steps, the gradients so far."""
        describe_network(checkpoint, self.network.config, self.tokenizer)
        trainer = self.trainer
        done = trainer.fit_loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
        if done % trainer.accumulate_grad_batches:
            checkpoint["gradients"] = {
                name: trainer.strategy.reduce(parameter.grad.clone(), reduce_op="mean")
                for name, parameter in self.named_parameters()
                if parameter.grad is not None
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is of this network and tokenizer.

        Raises:
            UserError: another program has written it, or the network or the tokenizer differs.
        """
        check_checkpoint(checkpoint, self.network.config, self.tokenizer, self.state_dict().keys())
        self._gradients = checkpoint.get("gradients", {})
