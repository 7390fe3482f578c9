"""Pretraining: a transformer learns from random weights, or from those of another checkpoint of its shape."""

from __future__ import annotations

from typing import final

from transformers import PreTrainedTokenizerBase

from textdiff.data import FillInMiddle, TextDataModule
from textdiff.errors import UserError
from textdiff.models import Transformer, merge_adapter
from textdiff.pretrained import load
from textdiff.text import Vocabulary
from textdiff.training.checkpoints import shape_difference
from textdiff.training.module import TrainingModule
from textdiff.training.network import Network
from textdiff.training.optimizers import AdamW, OptimizerFactory


@final
class PretrainingModule(TrainingModule):
    """Trains a new transformer: a masked diffusion prior or, with a causal network, its autoregressive baseline.

    Args:
        tokenizer: its vocabulary is the network's.
        network: shape of the transformer.
        optimizer, warmup_steps, final_lr, opening_steps: see `TrainingModule`.
        init_from: a checkpoint of the same shape and tokenizer whose weights the network starts from; a causal network
            may start a denoiser.
        compile: run the blocks through `torch.compile`.
        checkpoint_activations: recompute activations in the backward pass instead of keeping them; with FSDP, use its
            own `activation_checkpointing`.
        seed: of initial weights and dropout.

    Raises:
        UserError: `init_from` does not fit, or the shape makes no network.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        network: Network = Network(),  # noqa: B008  (frozen)
        optimizer: OptimizerFactory = AdamW(),  # noqa: B008  (frozen)
        *,
        warmup_steps: int = 100,
        final_lr: float = 0.05,
        opening_steps: int = 0,
        init_from: str | None = None,
        compile: bool = False,
        checkpoint_activations: bool = False,
        seed: int = 0,
    ) -> None:
        transformer = network.build(Vocabulary.of(tokenizer), seed)
        if init_from is not None:
            _copy_weights(init_from, transformer, tokenizer)
        if checkpoint_activations:
            transformer.checkpoint_activations()
        if compile:
            transformer.compile_blocks()
        super().__init__(
            transformer,
            tokenizer,
            optimizer,
            warmup_steps=warmup_steps,
            final_lr=final_lr,
            opening_steps=opening_steps,
            seed=seed,
        )

    def check_data(self, data: TextDataModule) -> None:
        """Check that corruption and length suit the network.

        Raises:
            UserError: they do not.
        """
        config, corruption = self.network.config, data.corruption
        if config.causal != corruption.causal:
            raise UserError(
                f"model.network.causal is {config.causal} and data.corruption {type(corruption).__name__}: "
                "a causal network goes with textdiff.data.LeftToRight or FillInMiddle, a denoiser with the others"
            )
        if config.fill_in_middle != isinstance(corruption, FillInMiddle):
            raise UserError(
                f"model.network.fill_in_middle is {config.fill_in_middle} and data.corruption "
                f"{type(corruption).__name__}: textdiff.data.FillInMiddle and fill_in_middle go together"
            )
        if data.length > config.max_position_embeddings:
            raise UserError(
                f"data.length is {data.length} and the network reads at most {config.max_position_embeddings} tokens: "
                "raise model.network.max_position_embeddings"
            )


def _copy_weights(checkpoint: str, network: Transformer, tokenizer: PreTrainedTokenizerBase) -> None:
    """Start a network from the weights of a checkpoint."""
    donor = load(checkpoint)
    if not isinstance(donor.network, Transformer):
        raise UserError(
            f"init_from {checkpoint!r} is a published model of another library: fine-tune it by "
            "textdiff.training.FineTuningModule, as configs/convert/full.yaml does"
        )
    merge_adapter(donor.network)
    if donor.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise UserError(f"init_from {checkpoint!r} has another tokenizer: set data.tokenizer to that folder")
    if difference := shape_difference(donor.network.config.to_dict(), network.config, ignore_causal=True):
        raise UserError(f"init_from {checkpoint!r} has another shape ({difference}): give model.network its sizes")
    network.load_state_dict(network.state_dict() | donor.network.state_dict())
