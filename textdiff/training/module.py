"""The LightningModule of both families: a denoiser and its causal twin differ in what is hidden and who sees whom."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, final

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.data import FillInMiddle, Part, TextDataModule
from textdiff.errors import UserError
from textdiff.models import (
    Attention,
    ForeignDenoiser,
    LoRA,
    Transformer,
    TransformerConfig,
    causal_visibility,
    denoising_visibility,
    merge_adapter,
    save_adapter,
)
from textdiff.posterior import Denoises, Prior
from textdiff.pretrained import load, prior_of
from textdiff.samplers import Strided
from textdiff.text import Vocabulary
from textdiff.training.checkpoints import shape_difference, vocabulary_key
from textdiff.training.filling import Filling, filled
from textdiff.training.metrics import BitsPerCharacter, NatsPerToken
from textdiff.training.optimizers import AdamW, OptimizerFactory, scheduled

GAP_POLICY = Strided(8)
"""How a denoiser fills the held-out gaps on which it is measured in training."""


@dataclass(frozen=True)
class Network:
    """Shape of the transformer, see `TransformerConfig`."""

    causal: bool = False
    fill_in_middle: bool = False
    hidden_size: int = 256
    num_hidden_layers: int = 8
    num_attention_heads: int = 4
    intermediate_size: int | None = None
    max_position_embeddings: int = 512
    attention: Attention = "isolated"
    dropout: float = 0.0
    tie_word_embeddings: bool = True


@final
class TextModule(lightning.LightningModule):
    """Trains a `Transformer` as a masked diffusion prior or as its autoregressive twin, or a model of another making.

    The loss is the sum of weight x cross-entropy over the number of maskable tokens, both of all devices: nats per
    token. Only positions that carry a weight reach the head.

    Logged: `train/loss`; `valid/nats_per_token`, `valid/bits_per_character` (a bound for a denoiser, exact for the
    twin) and `valid/gap_nats`, the exact -log q per token of held-out gaps (a denoiser: 8 strided steps; the twin:
    prefix only).

    Args:
        tokenizer: its vocabulary is the model's.
        network: shape of the transformer.
        optimizer: AdamW or Muon.
        warmup_steps: of linear warm-up, before a cosine.
        final_lr: the last learning rate, as a share of the largest.
        init_from: folder of a checkpoint of the same shape that lends its weights (a twin to a denoiser).
        base: folder or name of a denoiser of another making, such as one that `textdiff convert` wrote: it is trained
            on, in place of a `network`.
        adapter: learn a low-rank adapter of `base` alone; None: all of it.
        to: folder for the adapter, written at the end.
        opening_steps: over so many steps of training attention to what comes later is opened, at random to an ever
            larger share of it (arXiv:2410.17891); 0: at once.
        compile: run the blocks through `torch.compile`.
        checkpoint_activations: compute activations again in the backward pass instead of keeping them; with FSDP its
            own `activation_checkpointing` does it.
        seed: of initial weights and dropout.
        fill: options of `textdiff predict`.

    Raises:
        UserError: `init_from` or `base` does not fit, or the shape makes no network.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        network: Network = Network(),
        optimizer: OptimizerFactory = AdamW(),  # noqa: B008  (frozen)
        warmup_steps: int = 100,
        final_lr: float = 0.05,
        init_from: str | None = None,
        base: str | None = None,
        adapter: LoRA | None = None,
        to: str | None = None,
        opening_steps: int = 0,
        compile: bool = False,
        checkpoint_activations: bool = False,
        seed: int = 0,
        fill: Filling = Filling(),  # noqa: B008  (frozen)
    ) -> None:
        super().__init__()
        self.tokenizer, self.vocabulary = tokenizer, Vocabulary.of(tokenizer)
        self.optimizer, self.warmup_steps, self.final_lr, self.seed = optimizer, warmup_steps, final_lr, seed
        self.fill, self.base, self.adapter, self.to_folder, self.opening_steps = fill, base, adapter, to, opening_steps
        self.network: Transformer | ForeignDenoiser
        if base is not None:
            self.network = self._foreign(base, init_from)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.network = Transformer(_config(self.vocabulary, network))
        if init_from is not None:
            self._initialise(init_from)
        if checkpoint_activations:
            if not isinstance(self.network, Transformer):
                raise UserError("model.checkpoint_activations is not for a model.base of another making: leave it out")
            self.network.checkpoint_activations()
        if adapter is not None:
            self._adapt(adapter)
        if compile:
            self.network.compile_blocks()
        self.nats, self.bits, self.gap_nats = NatsPerToken(), BitsPerCharacter(), NatsPerToken()
        self._gradients: dict[str, Tensor] = {}

    def _foreign(self, base: str, init_from: str | None) -> ForeignDenoiser:
        """The denoiser that is trained on."""
        prior = load(base)
        if init_from is not None or not isinstance(prior.network, ForeignDenoiser):
            raise UserError(f"base {base!r} is for models of another making: give init_from alone, and model.network")
        if prior.vocabulary.null is None:
            raise UserError(f"base {base!r} knows no null, for unused slots: textdiff convert gives it one to learn")
        if prior.tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise UserError(f"base {base!r} has another tokenizer: set data.tokenizer to that folder")
        return prior.network.train()

    def _adapt(self, adapter: LoRA) -> None:
        """Let a low-rank adapter learn, and nothing else."""
        if self.base is None or self.to_folder is None:
            raise UserError("model.adapter is of a model.base, and is written to model.to: give both")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            adapter.attach(self.network)

    def _initialise(self, folder: str) -> None:
        donor = load(folder)
        if not isinstance(donor.network, Transformer):
            raise UserError(f"init_from {folder!r} is a model of another making: give it as model.base")
        merge_adapter(donor.network)
        if donor.tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise UserError(f"init_from {folder!r} has another tokenizer: set data.tokenizer to that folder")
        if difference := shape_difference(donor.network.config.to_dict(), self.network.config, twins=True):
            raise UserError(f"init_from {folder!r} has another shape ({difference}): give model.network its sizes")
        self.network.load_state_dict(self.network.state_dict() | donor.network.state_dict())

    @property
    def prior(self) -> Prior:
        """The network as it stands, ready to fill gaps."""
        return prior_of(self.network, self.tokenizer, self.vocabulary)

    def setup(self, stage: str) -> None:
        """See that the data are of the network's kind; in `predict`, that each process has a whole network.

        Raises:
            UserError: they are not, or it has none.
        """
        if stage == "predict":
            self.fill.of(self.prior)
            if isinstance(self.trainer.strategy, FSDPStrategy | ModelParallelStrategy):
                raise UserError("predict fills rows of its own on each device: set trainer.strategy to auto or ddp")
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, TextDataModule):
            return
        causal, longest = self.network.config.causal, self.network.config.max_position_embeddings
        if causal != data.corruption.causal:
            raise UserError(
                f"model.network.causal is {causal} and data.corruption {type(data.corruption).__name__}: "
                "a causal network goes with textdiff.data.LeftToRight or FillInMiddle, a denoiser with the others"
            )
        if self.network.config.fill_in_middle != isinstance(data.corruption, FillInMiddle):
            raise UserError(
                f"model.network.fill_in_middle is {self.network.config.fill_in_middle} and data.corruption "
                f"{type(data.corruption).__name__}: textdiff.data.FillInMiddle and fill_in_middle go together"
            )
        if data.length > longest:
            raise UserError(
                f"data.length is {data.length} and the network reads at most {longest} tokens: "
                "raise model.network.max_position_embeddings"
            )

    def cross_entropy(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Cross-entropy in nats where there is a weight, and the weights: two `[asked]` float32 tensors."""
        config = self.network.config
        if config.causal:
            visible = causal_visibility(batch["segments"])
        else:
            visible = denoising_visibility(batch["segments"], batch["observed"], config.attention)
            if self.training and self.global_step < self.opening_steps:
                opened = torch.rand(visible.shape, device=visible.device) < self.global_step / self.opening_steps
                visible = visible & (opened | causal_visibility(batch["segments"]))
        states = self.network.hidden(batch["canvas"], visible, batch["positions"])
        asked = batch["weights"] > 0
        states = states[:, :-1][asked[:, 1:]] if config.causal else states[asked]
        logits = self.network.head(states).float()
        logits = logits.masked_fill(self.network.forbidden_mask(logits.device), -math.inf)
        if not config.causal and config.null_token_id is not None:
            logits[:, config.null_token_id] = logits[:, config.null_token_id].masked_fill(
                ~batch["nullable"][asked], -math.inf
            )
        return F.cross_entropy(logits, batch["tokens"][asked], reduction="none"), batch["weights"][asked]

    def on_fit_start(self) -> None:
        """Tell the size."""
        rank_zero_info(f"{self.network.num_parameters():,} parameters")

    def on_train_start(self) -> None:
        """Go on with the gradients that a checkpoint within an accumulation has kept."""
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
        told = totals[1].clamp(min=1)
        self.log("train/loss", totals[0] / told, prog_bar=True)
        return nats * (self.trainer.world_size / told)  # gradients are averaged over the devices

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Loader 0: likelihood of whole texts. Loader 1: exact -log q of held-out gaps."""
        if dataloader_idx == 0:
            losses, weights = self.cross_entropy(batch)
            told = batch["tokens"][(batch["weights"] > 0) if self.network.config.causal else ~batch["observed"]]
            self.nats.update(losses * weights, told.numel())
            self.bits.update(losses * weights, self.vocabulary.characters.to(told.device)[told].sum())
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
        """Log the held-out figures."""
        self._log_held_out("valid")

    def on_test_epoch_end(self) -> None:
        """Log the held-out figures."""
        self._log_held_out("test")

    def _log_held_out(self, stage: str) -> None:
        named = {"nats_per_token": self.nats, "bits_per_character": self.bits, "gap_nats": self.gap_nats}
        for name, metric in named.items():
            if metric.update_called:
                self.log(f"{stage}/{name}", metric.compute(), prog_bar=True, sync_dist=True)
            metric.reset()

    def predict_step(self, batch: Part, batch_idx: int) -> list[dict[str, Any]]:
        """Fill rows, see `textdiff.training.filling.filled`."""
        return filled(self.fill.of(self.prior), batch.rows, self.fill)

    def on_train_end(self) -> None:
        """Write the adapter, if that is what was learnt."""
        if self.adapter is not None and self.trainer.is_global_zero:
            assert self.base is not None and self.to_folder is not None
            save_adapter(self.network, self.to_folder, self.base)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer, with linear warm-up and a cosine down to `final_lr` at the trainer's last step.

        Raises:
            UserError: the trainer has no last step.
        """
        steps = self.trainer.estimated_stepping_batches
        return scheduled(self.optimizer.build(self.network), steps, self.warmup_steps, self.final_lr)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what `export` needs beside the weights and, within an accumulation, the gradients so far."""
        checkpoint["network_config"] = self.network.config.to_dict()
        checkpoint["vocabulary"] = vocabulary_key(self.tokenizer)
        trainer = self.trainer
        done = trainer.fit_loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
        if done % trainer.accumulate_grad_batches:
            checkpoint["gradients"] = {
                name: trainer.strategy.reduce(parameter.grad.clone(), reduce_op="mean")
                for name, parameter in self.named_parameters()
                if parameter.grad is not None
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is of this model.

        Raises:
            UserError: another program has written it, or the network or the tokenizer differs.
        """
        if "network_config" not in checkpoint:
            raise UserError("the checkpoint is not of a textdiff run: give another ckpt_path")
        if difference := shape_difference(checkpoint["network_config"], self.network.config):
            raise UserError(f"the checkpoint has another shape ({difference}): give model.network its sizes")
        if checkpoint["state_dict"].keys() != self.state_dict().keys():
            raise UserError("the checkpoint has other parameters: another version of textdiff has written it")
        if checkpoint.get("vocabulary", own := vocabulary_key(self.tokenizer)) != own:
            raise UserError("the checkpoint was trained with another tokenizer: set data.tokenizer to that one")
        self._gradients = checkpoint.get("gradients", {})


def _config(vocabulary: Vocabulary, network: Network) -> TransformerConfig:
    try:
        return TransformerConfig(vocab_size=vocabulary.size, **vocabulary.special_ids(), **asdict(network))
    except ValueError as error:
        raise UserError(f"model.network: {error}") from error
