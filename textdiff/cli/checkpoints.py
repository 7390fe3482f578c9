"""The models that a command names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textdiff.errors import UserError

if TYPE_CHECKING:
    from textdiff.priors import Prior


def twin(checkpoint: str) -> str:
    """The autoregressive twin that belongs to a checkpoint: a folder beside it, or one that comes with textdiff."""
    from textdiff.priors import shipped

    folder = f"{Path(checkpoint)}-ar"
    if Path(folder).is_dir():
        return folder
    try:
        return str(shipped(folder))
    except UserError:
        raise UserError(f"there is no autoregressive twin at {folder!r}: name its folder, --baseline FOLDER") from None


def load(checkpoint: str) -> Prior:
    """A checkpoint, read without chatter."""
    from transformers.utils import logging

    from textdiff import priors

    logging.set_verbosity_error()
    return priors.load(checkpoint)
