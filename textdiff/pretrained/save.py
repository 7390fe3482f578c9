"""A prior on disk: network, tokenizer and a model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import transformers

from textdiff.pretrained.card import model_card
from textdiff.pretrained.network_prior import NetworkPrior, savable_network


def save(
    prior: NetworkPrior, folder: str | Path, *, name: str | None = None, figures: Mapping[str, str] | None = None
) -> Path:
    """Write a prior to a folder that `load` reads: network, tokenizer, and a model card.

    Args:
        prior: with a network.
        folder: to write to; an existing card is kept, unless there are figures for a new one.
        name: `owner/name` on the Hub, or the folder as others will know it; None: the folder's own name.
        figures: measured values for the card, by what was measured.

    Raises:
        UserError: the prior is an exact world, which has no weights, or its weights are quantized.
    """
    folder, network = Path(folder), savable_network(prior)
    shown = transformers.logging.is_progress_bar_enabled()
    transformers.logging.disable_progress_bar()
    try:
        network.save_pretrained(folder)
        prior.tokenizer.save_pretrained(folder)
    finally:
        if shown:
            transformers.logging.enable_progress_bar()
    card = folder / "README.md"
    if figures or not card.exists():
        card.write_text(model_card(prior, name or folder.name, figures or {}), encoding="utf-8")
    return folder
