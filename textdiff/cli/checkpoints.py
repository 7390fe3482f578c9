"""The models that a command names."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from textdiff.errors import UserError

if TYPE_CHECKING:
    from textdiff.posterior import Prior

DTYPES = ("float32", "bfloat16", "float16")


def baseline_folder(checkpoint: str, option: str = "--baseline") -> str:
    """The autoregressive twin that belongs to a checkpoint: a folder beside it, or one that comes with textdiff."""
    from textdiff.pretrained import shipped

    folder = f"{Path(checkpoint)}-ar"
    if Path(folder).is_dir():
        return folder
    try:
        return str(shipped(folder))
    except UserError:
        raise UserError(f"there is no autoregressive twin at {folder!r}: name its folder, {option} FOLDER") from None


def prior_folder(options: argparse.Namespace) -> str:
    """The checkpoint that `--checkpoint` names, or the one that comes with textdiff."""
    from textdiff.pretrained import shipped

    return str(shipped("stories")) if options.checkpoint is None else str(options.checkpoint)


def add_placing(parser: argparse.ArgumentParser) -> None:
    """Options that say where networks live, and in which type and bits: what `load` reads."""
    add = parser.add_argument
    add("--device", default="cpu", metavar="NAME", help="where networks live, such as cuda (default cpu)")
    add(
        "--dtype", default=DTYPES[0], choices=DTYPES, help="type of their weights (default float32; bfloat16 is faster)"
    )
    add("--quantization", type=int, choices=(8, 4), help="keep weights of a model of another making in so many bits")


def load(checkpoint: str, options: argparse.Namespace) -> Prior:
    """A checkpoint, read without chatter, where the options of `add_placing` say.

    Raises:
        UserError: no such checkpoint; a device that there is not; few bits for a model that they are not for.
    """
    import torch
    from transformers.utils import logging

    from textdiff import pretrained

    logging.set_verbosity_error()
    return pretrained.load(checkpoint, options.device, getattr(torch, options.dtype), options.quantization)
