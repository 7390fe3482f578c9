"""The JSON files of a checkpoint, read as data: settings that ask to run code are refused."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textdiff.errors import UserError
from textdiff.files import read_json

CODE = ("auto_map", "attn_implementation", "_attn_implementation", "experts_implementation")
"""Settings by which transformers would download and run code."""


def read_settings(path: Path, name: str) -> dict[str, Any]:
    """The JSON object in the file `name` of the folder `path`.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        content = read_json(path / name)
    except FileNotFoundError:
        raise UserError(f"no {name} in {str(path)!r}: give a folder that holds a textdiff checkpoint") from None
    if not isinstance(content, dict):
        raise UserError(f"{name} in {str(path)!r} is damaged (no settings in it): copy the checkpoint again")
    return content


def refuse_code(path: Path, name: str, content: Mapping[str, Any]) -> None:
    """Refuse settings that ask to run code; textdiff writes none of these.

    Raises:
        UserError: there is such a setting.
    """
    for setting in CODE:
        if setting in content:
            raise UserError(
                f"{name} in {str(path)!r} asks to run code of its own ({setting}): textdiff never does that"
            )


def kind_of(content: Mapping[str, Any]) -> str | None:
    """The type of model that settings are of; None: they name none."""
    kind = content.get("model_type")
    return kind if isinstance(kind, str | None) else reprlib.repr(kind)
