"""Fine-tuning: a checkpoint of any architecture is trained further, as a whole or by a low-rank adapter."""

from __future__ import annotations

from typing import final

import torch
from transformers import PreTrainedTokenizerBase

from textdiff.data import FillInMiddle, TextDataModule
from textdiff.errors import UserError
from textdiff.models import ForeignDenoiser, LoRA, Transformer, save_adapter
from textdiff.models.adapter_files import check_adapter_place
from textdiff.pretrained import load
from textdiff.samplers import seed_generator
from textdiff.training.module import TrainingModule
from textdiff.training.optimizers import AdamW, OptimizerFactory


@final
class FineTuningModule(TrainingModule):
    """Trains a checkpoint further, for example one that `textdiff convert` made of a causal language model.

    Args:
        tokenizer: that of the checkpoint.
        checkpoint: what `textdiff.load` reads: a folder, a shipped name, or `owner/name` on the Hub.
        optimizer, warmup_steps, final_lr, opening_steps: see `TrainingModule`.
        adapter: a low-rank adapter, the only part that is trained then; None: the whole network is trained.
        to: the folder that the adapter is written to at the end.
        compile: run the blocks through `torch.compile`.
        seed: of the initial adapter and dropout.

    Raises:
        UserError: the checkpoint cannot be trained further, or `adapter` comes without `to`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        checkpoint: str,
        optimizer: OptimizerFactory = AdamW(),  # noqa: B008  (frozen)
        *,
        warmup_steps: int = 100,
        final_lr: float = 0.05,
        opening_steps: int = 0,
        adapter: LoRA | None = None,
        to: str | None = None,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        network = _trainable(checkpoint, tokenizer)
        if adapter is not None:
            if to is None:
                raise UserError("model.adapter is written to the folder model.to: give both")
            check_adapter_place(to, "model.to")
            with torch.random.fork_rng(devices=[]):
                seed_generator(torch.default_generator, seed)
                adapter.attach(network)
        if compile:
            network.compile_blocks()
        super().__init__(
            network,
            tokenizer,
            optimizer,
            warmup_steps=warmup_steps,
            final_lr=final_lr,
            opening_steps=opening_steps,
            seed=seed,
        )
        self.checkpoint, self.adapter, self.to_folder = checkpoint, adapter, to

    def check_data(self, data: TextDataModule) -> None:
        """Check that corruption and length suit the checkpoint.

        Raises:
            UserError: they do not.
        """
        config, corruption = self.network.config, data.corruption
        if config.causal != corruption.causal or config.fill_in_middle != isinstance(corruption, FillInMiddle):
            fitting = "FillInMiddle" if config.fill_in_middle else "LeftToRight" if config.causal else "Mixture"
            raise UserError(
                f"data.corruption is {type(corruption).__name__}, which does not suit model.checkpoint "
                f"{self.checkpoint!r}: textdiff.data.{fitting} does"
            )
        if data.length > config.max_position_embeddings:
            raise UserError(
                f"data.length is {data.length} and model.checkpoint {self.checkpoint!r} reads at most "
                f"{config.max_position_embeddings} tokens: lower data.length"
            )

    def on_train_end(self) -> None:
        """Write the adapter, if there is one."""
        if self.adapter is not None and self.trainer.is_global_zero:
            assert self.to_folder is not None
            save_adapter(self.network, self.to_folder, self.checkpoint)


def _trainable(checkpoint: str, tokenizer: PreTrainedTokenizerBase) -> Transformer | ForeignDenoiser:
    """The network of a checkpoint, if it can be trained further."""
    prior = load(checkpoint)
    network = prior.network
    assert isinstance(network, Transformer | ForeignDenoiser)
    if prior.vocabulary.null is None:
        raise UserError(
            f"model.checkpoint {checkpoint!r} knows no null, for unused slots: textdiff convert gives it one to learn"
        )
    if prior.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise UserError(f"model.checkpoint {checkpoint!r} has another tokenizer: set data.tokenizer to that folder")
    return network.train()
