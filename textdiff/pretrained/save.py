"""A prior on disk: network, tokenizer, a model card, and the checksums of these files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.files import as_path, probe_folder, whole_folder, write_checksums
from textdiff.models.adapter_files import ADAPTER_CONFIG
from textdiff.pretrained.card import model_card
from textdiff.pretrained.load import DEPENDENCE
from textdiff.pretrained.network_prior import NetworkPrior, savable_network
from textdiff.pretrained.weights import INDEX
from textdiff.priors.diffusion import DiffusionPrior
from textdiff.text.quiet import quiet

CARD = "README.md"


def save(
    prior: NetworkPrior, folder: str | Path, *, name: str | None = None, figures: Mapping[str, str] | None = None
) -> Path:
    """Write a prior to a folder that `load` reads: network, tokenizer, a model card, and a calibration if it has one.

    Args:
        prior: with a network.
        folder: to write to; an existing card is kept, unless there are figures for a new one.
        name: `owner/name` on the Hub, or the folder as others will know it; None: the folder's own name.
        figures: measured values for the card, by what was measured.

    Raises:
        TypeError: the argument that it names is of another type.
        UserError: the prior is an exact world, which has no weights, or its weights are quantized or not finite; the
            folder cannot be written.
    """
    network, folder = savable_network(prior), as_path(folder, "folder")
    if not isinstance(figures, Mapping | None):
        raise TypeError(f"figures is {figures!r:.80}, expected measured values by what was measured, or None")
    if not isinstance(name, str | None):
        raise TypeError(f"name is {name!r:.80}, expected a name as a string, or None")
    files = {}
    if figures or not (folder / CARD).exists():
        files[CARD] = model_card(prior, name or folder.name, figures or {})
    if isinstance(prior, DiffusionPrior) and prior.dependence is not None:
        files[DEPENDENCE] = prior.dependence.json()
    write_checkpoint(network, prior.tokenizer, folder, files)
    return folder


def check_place(folder: str | Path) -> Path:
    """Check that a checkpoint can be written to a folder, which need not exist; returns its path.

    Raises:
        UserError: it is a file, cannot be written, or holds an adapter, as which it would be loaded.
    """
    path = probe_folder(folder)
    if (path / ADAPTER_CONFIG).exists():
        raise UserError(f"{str(path)!r} holds an adapter, as which it would be loaded: name another folder")
    return path


def write_checkpoint(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, files: Mapping[str, str] | None = None
) -> None:
    """Write a network, its tokenizer and further text files, with checksums, whole or not at all.

    Other files in the folder are kept, but for weights and the calibration of a network that was there before.

    Args:
        network: its weights are finite.
        tokenizer: of the network.
        folder: to write to.
        files: further files, content by name.

    Raises:
        UserError: a weight is NaN or infinite, or the folder cannot be written.
    """
    for name, weight in network.state_dict().items():
        if not torch.isfinite(weight).all():
            raise UserError(
                f"the weights in {name!r} are not finite (NaN or infinite): training has diverged; take an earlier "
                "checkpoint, or train with a lower learning rate"
            )
    check_place(folder)
    with whole_folder(folder) as part:
        with quiet():
            network.save_pretrained(part)
            tokenizer.save_pretrained(part)
        for name, content in (files or {}).items():
            (part / name).write_text(content, encoding="utf-8")
        written = {path.name for path in part.iterdir() if path.is_file()}
        write_checksums(part, written - {CARD})
    for path in (folder / DEPENDENCE, folder / INDEX, *folder.glob("model*.safetensors")):
        if path.name not in written:
            path.unlink(missing_ok=True)
