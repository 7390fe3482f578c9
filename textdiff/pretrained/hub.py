"""Downloading checkpoints from the Hugging Face Hub: data alone, no code and no pickles."""

from __future__ import annotations

import re
from pathlib import Path

from textdiff.errors import UserError, reason
from textdiff.files import CHECKSUMS

SETTINGS = ("*.json", "*.txt", "*.model", CHECKSUMS)
"""Patterns of the files of configs and tokenizers."""


def is_hub_id(name: str | Path) -> bool:
    """Whether `name` may be `owner/name` on the Hub, rather than a path: no local folder is called like its owner."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", name):
        return False
    return not Path(name).parent.exists()


def download(name: str, *, weights: bool = True) -> Path:
    """The local folder of a checkpoint of the Hub, downloaded into the cache if needed: no code, and no pickles.

    Args:
        name: `owner/name`.
        weights: whether to download the weights, too; only safetensors are.

    Raises:
        UserError: the Hub has no such checkpoint, or cannot be reached.
    """
    from huggingface_hub import snapshot_download

    wanted = [*SETTINGS, *(["*.safetensors"] if weights else [])]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["*/*"]))
    except Exception as error:  # of the Hub, of the connection, of the disk
        why = reason(error).rstrip(". ")
        raise UserError(
            f"{name!r} is no folder, and no shipped checkpoint, and the Hub does not give it ({why}): "
            "check the name and the connection, or give a folder"
        ) from error
