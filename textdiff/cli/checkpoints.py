"""The checkpoints that a command names, and the options that say how they are loaded."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from textdiff.errors import UserError

if TYPE_CHECKING:
    from textdiff.posterior import Prior

DTYPES = ("float32", "bfloat16", "float16")


def baseline_folder(checkpoint: str, option: str = "--baseline") -> str:
    """The autoregressive baseline of a checkpoint: the folder beside it that ends in -ar, or one shipped with textdiff.

    Raises:
        UserError: there is none; `option` is the one that names its folder.
    """
    from textdiff.pretrained import shipped
    from textdiff.pretrained.packaged import packaged

    folder = str(packaged(f"{Path(checkpoint)}-ar"))
    if Path(folder).is_dir():
        return folder
    try:
        return str(shipped(folder))
    except UserError:
        raise UserError(
            f"there is no autoregressive baseline at {folder!r}: name its folder, {option} FOLDER"
        ) from None


def prior_folder(options: argparse.Namespace) -> str:
    """The checkpoint that `--checkpoint` names, or the one that comes with textdiff."""
    from textdiff.pretrained import shipped

    return str(shipped("stories")) if options.checkpoint is None else str(options.checkpoint)


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add the options by which `load` loads a network: device, type and quantization."""
    add = parser.add_argument
    add("--device", default="cpu", metavar="NAME", help="device of the networks, such as cuda (default cpu)")
    add(
        "--dtype", default=DTYPES[0], choices=DTYPES, help="type of their weights (default float32; bfloat16 is faster)"
    )
    add("--quantization", type=int, choices=(8, 4), help="quantize the weights of a published model to this many bits")


def load(checkpoint: str, options: argparse.Namespace, *, calibration: bool = True) -> Prior:
    """Load a checkpoint as the options of `add_network_options` say, without messages of transformers.

    Raises:
        UserError: no such checkpoint or device, or a model that cannot be quantized.
    """
    from transformers.utils import logging

    from textdiff import pretrained

    logging.set_verbosity_error()
    return pretrained.load(checkpoint, options.device, options.dtype, options.quantization, calibration=calibration)
