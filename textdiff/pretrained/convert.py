"""The start of a masked diffusion model, made from a published model."""

from __future__ import annotations

from pathlib import Path

import torch

from textdiff.errors import UserError
from textdiff.files import as_path
from textdiff.models import FAMILIES, TransformerConfig
from textdiff.pretrained.device import network_device, network_dtype
from textdiff.pretrained.network_prior import prior_of
from textdiff.pretrained.published import load_published
from textdiff.pretrained.settings import kind_of, read_settings
from textdiff.pretrained.shipped import locate
from textdiff.pretrained.weights import CONFIG
from textdiff.priors.diffusion import DiffusionPrior
from textdiff.text.quiet import quiet


def convert(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | str = torch.float32
) -> DiffusionPrior:
    """The start of a masked diffusion model: a published model, usually a causal one, with bidirectional attention.

    Special tokens that it lacks, `null` among them, get new embedding rows, each the mean of the others; a causal model
    keeps its outputs shifted by one position. The result has to be trained before it fills gaps: see `configs/convert`.

    Args:
        folder: of the model, or `owner/name` on the Hugging Face Hub.
        device, dtype: see `load`.

    Raises:
        UserError: see `load`.
    """
    device, dtype = network_device(device), network_dtype(dtype)
    as_path(folder, "folder")
    path = locate(folder)
    content = read_settings(path, CONFIG)
    if (kind := kind_of(content)) not in FAMILIES:
        if kind == TransformerConfig.model_type:
            fix = (
                f"a prior learns from where it stopped by model.init_from: {folder} in a configuration of textdiff fit"
            )
            raise UserError(f"the model in {str(path)!r} is textdiff's own: {fix}, as in configs/stories.yaml")
        raise UserError(f"the model in {str(path)!r} is of type {kind!r:.80}, expected one of {', '.join(FAMILIES)}")
    with quiet():
        prior = prior_of(*load_published(path, content, device, dtype, grow=True))
    assert isinstance(prior, DiffusionPrior)
    return prior
