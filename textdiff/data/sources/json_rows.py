"""JSON rows in which a value that cannot be kept is marked where it stands, so that the others are of use."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, final

DEEPEST = 100
"""The most lists and objects within each other; Python's own limit depends on who calls."""


@final
@dataclass(frozen=True)
class Flaw:
    """Stands for a value that is no JSON; `reason` says why."""

    reason: str

    def __repr__(self) -> str:
        return self.reason


def decode_json(text: str) -> Any:
    """A JSON value; a `Flaw` stands for each number that is none or too large, and for two values of one key.

    Raises:
        ValueError: the text is no JSON, or nested too deep.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"at character {error.pos + 1}" if error.lineno == 1 else f"in line {error.lineno}"
        raise ValueError(f"{error.msg.removesuffix(' at')} {where}") from error
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} deep") from None


def flaw_in(value: Any) -> str | None:
    """Why a decoded value cannot be written as JSON again; None: it can."""
    left = [(value, 0)]
    while left:
        value, depth = left.pop()
        if isinstance(value, Flaw):
            return value.reason
        if depth > DEEPEST:
            return f"nested more than {DEEPEST} deep"
        if isinstance(value, dict | list):
            left += [(inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value)]
    return None


def _whole(digits: str) -> int | Flaw:
    try:
        return int(digits)
    except ValueError:  # Python converts up to 4,300 digits
        return Flaw(f"a number of {len(digits)} digits")


def _decimal(digits: str) -> float | Flaw:
    value = float(digits)
    return value if math.isfinite(value) else Flaw(f"a number that is too large ({digits[:20]})")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                found[key] = Flaw(f"two values of {key[:40]!r}")
            seen.add(key)
    return found


_DECODER = json.JSONDecoder(
    parse_int=_whole,
    parse_float=_decimal,
    parse_constant=lambda name: Flaw(f"{name}, which is no JSON"),
    object_pairs_hook=_object,
)
