"""Options that are null although they need a value: the parser takes null for any type."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pydoc import locate
from typing import Any, get_args, get_type_hints

from jsonargparse import Namespace

from textdiff.errors import UserError


def check_null_values(options: Namespace, classes: Mapping[str, type]) -> None:
    """Check that only options which may be null are.

    Args:
        options: parsed options by section, such as trainer or data.
        classes: of the sections that name none.

    Raises:
        UserError: an option is null, and its type has no null.
    """
    for section, value in vars(options).items():
        for name in _missing(section, value, classes.get(section)):
            raise UserError(f"{name} is null, and needs a value: give one, or leave the option out")


def _missing(name: str, value: Any, of: Any) -> Iterator[str]:
    """Names of the options below `name` that are null and should not be."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _missing(f"{name}.{number}", item, None)
        return
    if not hasattr(value, "get"):
        return
    if isinstance(path := value.get("class_path"), str):
        of, value = locate(path), value.get("init_args")
    if not isinstance(of, type) or value is None:
        return
    try:
        hints, parameters = get_type_hints(of.__init__), inspect.signature(of).parameters  # type: ignore[misc]
    except (NameError, TypeError, ValueError):  # types that exist for type checkers alone
        return
    for option, parameter in parameters.items():
        inner, hint = value.get(option, ...), hints.get(option, Any)
        has_other_default = parameter.default not in (None, parameter.empty)  # without one it is required, or linked
        if inner is None and has_other_default and hint is not Any and type(None) not in get_args(hint):
            yield f"{name}.{option}"
        yield from _missing(f"{name}.{option}", inner, hint)
