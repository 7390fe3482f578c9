"""Prediction: the LightningModule behind `textdiff predict`, which fills rows of files."""

from __future__ import annotations

from typing import Any, final

import lightning
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from transformers import PreTrainedTokenizerBase

from textdiff.data import Part
from textdiff.errors import UserError
from textdiff.models import ForeignDenoiser, Transformer, merge_adapter
from textdiff.posterior import Prior
from textdiff.pretrained import load, prior_of
from textdiff.training.checkpoints import network_of_run
from textdiff.training.fill_rows import FillOptions, fill_rows


@final
class PredictionModule(lightning.LightningModule):
    """Fills templates with a trained prior.

    Args:
        checkpoint: what `textdiff.load` reads: a folder, a shipped name, or `owner/name` on the Hub; or a `.ckpt` file
            of a run that has not been exported.
        tokenizer: of the run, for a `.ckpt` file.
        fill: how templates are filled.

    Raises:
        UserError: there is no such checkpoint, or there is no such policy.
    """

    def __init__(
        self,
        checkpoint: str = "stories",
        tokenizer: PreTrainedTokenizerBase | None = None,
        fill: FillOptions = FillOptions(),  # noqa: B008  (frozen)
    ) -> None:
        super().__init__()
        if checkpoint.endswith(".ckpt"):
            if tokenizer is None:
                raise UserError(f"model.checkpoint {checkpoint!r} has no tokenizer of its own: set data.tokenizer")
            prior = prior_of(network_of_run(checkpoint, tokenizer), tokenizer)
        else:
            prior = load(checkpoint)
        assert isinstance(prior.network, Transformer | ForeignDenoiser)
        merge_adapter(prior.network)  # for speed
        self.network, self.fill = prior.network, fill
        self.prior: Prior = fill.configured(prior)

    def setup(self, stage: str) -> None:
        """Check that each process has the whole network.

        Raises:
            UserError: the network is shared out among processes.
        """
        if isinstance(self.trainer.strategy, FSDPStrategy | ModelParallelStrategy):
            raise UserError("predict fills rows of its own on each device: set trainer.strategy to auto or ddp")

    def predict_step(self, batch: Part, batch_idx: int) -> list[dict[str, Any]]:
        """Fill the rows of a batch, see `textdiff.training.fill_rows.fill_rows`."""
        return fill_rows(self.prior, batch.rows, self.fill)
