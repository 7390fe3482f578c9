"""A key for cached results: a hash of the objects that they depend on, the same in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cached_property, partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textdiff.data.corpus import fingerprint as tokenizer_fingerprint
from textdiff.errors import UserError
from textdiff.models.fingerprint import fingerprint as weights_fingerprint

UNRELATED = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""Entries of a network's configuration that say nothing about what it computes."""


def cache_key(*parts: Any) -> str:
    """A hash, 64 hexadecimal digits, of everything that `parts` are made of.

    Networks count by their class, configuration and weights, tokenizers by their rules, tensors by their content,
    functions by module, name and code, and other objects by their class and fields. Nothing that differs between
    processes enters, such as an address in memory or the order of a set.

    Raises:
        UserError: a part holds an object that cannot be described like this.
    """
    digest = hashlib.sha256()
    for piece in _pieces(parts, ()):
        digest.update(len(piece).to_bytes(8, "little") + piece)
    return digest.hexdigest()


def _pieces(value: Any, path: tuple[int, ...]) -> Iterator[bytes]:
    """The description of an object as pieces of bytes; `path` are the ids of the objects that contain it."""
    if value is None or value is Ellipsis or isinstance(value, (bool, int, float, complex, str, bytes, Path)):
        yield f"{type(value).__name__}:{value!r}".encode()
    elif isinstance(value, (torch.dtype, torch.device, np.dtype)):
        yield str(value).encode()
    elif isinstance(value, Tensor):
        yield f"tensor:{value.dtype}:{tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, (np.ndarray, np.generic)):
        yield f"array:{value.dtype}:{value.shape}".encode()
        yield value.tobytes()
    elif id(value) in path:  # a function or an object that refers to itself
        yield f"level {path.index(id(value))}".encode()
    else:
        yield from _composed(value, (*path, id(value)))


def _composed(value: Any, path: tuple[int, ...]) -> Iterator[bytes]:
    """The description of an object that holds others."""
    if isinstance(value, (tuple, list)):
        yield f"sequence:{len(value)}".encode()
        for item in value:
            yield from _pieces(item, path)
    elif isinstance(value, (set, frozenset)):
        yield f"set:{len(value)}".encode()
        yield from sorted(b"".join(_pieces(item, path)) for item in value)
    elif isinstance(value, Mapping):
        yield f"mapping:{len(value)}".encode()
        yield from sorted(b"".join(_pieces(item, path)) for item in value.items())
    else:
        yield _name(value if isinstance(value, (type, FunctionType, BuiltinFunctionType)) else type(value)).encode()
        for part in _parts(value):
            yield from _pieces(part, path)


def _parts(value: Any) -> list[Any]:
    """What an object is made of, beside its class."""
    if isinstance(value, (type, BuiltinFunctionType)):
        return []
    if isinstance(value, Enum):
        return [value.name]
    if isinstance(value, PreTrainedTokenizerBase):
        return [tokenizer_fingerprint(value)]
    if isinstance(value, nn.Module):
        config = value.config.to_dict() if isinstance(value, PreTrainedModel) else {}
        # Low-rank adapters keep their scale beside the weights.
        scales = {name: part.scaling for name, part in value.named_modules() if hasattr(part, "scaling")}
        return [{k: v for k, v in config.items() if k not in UNRELATED}, scales, weights_fingerprint(value)]
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [value.__code__, value.__defaults__, value.__kwdefaults__, cells]
    if isinstance(value, CodeType):
        return [value.co_code, value.co_names, value.co_consts]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    if hasattr(value, "__dict__"):
        computed = {name for name, entry in vars(type(value)).items() if isinstance(entry, cached_property)}
        return [{name: part for name, part in vars(value).items() if name not in computed}]
    raise UserError(
        f"what is drawn with an object of type {_name(type(value))} cannot be kept in a cache, for no key describes "
        "it: leave out the cache"
    )


def _name(what: Any) -> str:
    return f"{what.__module__}.{what.__qualname__}"
