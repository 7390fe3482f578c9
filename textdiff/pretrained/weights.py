"""Weights in safetensors, in one file or in shards, brought to their device and type one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from textdiff.errors import UserError, reason
from textdiff.files import check_plain, read_json
from textdiff.pretrained.quantization import Quantizer

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
MOST_BYTES = 2**50
WRAPPED = "backbone."
"""Prefix of the names of the weights of a wrapped network."""


@final
class Weights(Mapping[str, Tensor]):
    """The tensors of a checkpoint by name. Files are memory-mapped: a tensor takes memory only while it is used.

    Args:
        folder: holds `model.safetensors`, or shards and their index, `model.safetensors.index.json`.

    Raises:
        UserError: a file is missing or damaged, or the index names a file outside the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file_of: dict[str, Any] = {}
        whole = (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file()
        files = {WEIGHTS: None} if whole else self._shards()
        for file, expected in files.items():
            opened = self._open(file)
            names = set(opened.keys())
            if expected is not None and names != expected:
                wrong = min(names ^ expected)
                raise UserError(f"{file} in {str(folder)!r} does not fit {INDEX}, first at {wrong!r}: copy both again")
            self._file_of |= dict.fromkeys(names, opened)

    def _shards(self) -> dict[str, set[str]]:
        """The names of the tensors of each file, according to the index."""
        where = f"{INDEX} in {str(self.folder)!r}"
        try:
            found = read_json(self.folder / INDEX)["weight_map"].items()
        except (OSError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{where} is damaged ({reason(error)}): copy the checkpoint again") from error
        files: dict[str, set[str]] = {}
        for name, file in found:
            if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
                raise UserError(f"{where} names {file!r}: expected safetensors files of the same folder")
            files.setdefault(file, set()).add(name)
        return files

    def _open(self, file: str) -> Any:
        path = self.folder / file
        try:
            check_plain(path, MOST_BYTES)
            return safe_open(path, "pt")
        except FileNotFoundError:
            raise UserError(
                f"no {file} in {str(self.folder)!r}: only weights in safetensors are read, no pickled ones"
            ) from None
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{file} in {str(self.folder)!r} cannot be read ({reason(error)}): copy the checkpoint again"
            ) from error

    def __getitem__(self, name: str) -> Tensor:
        return self._file_of[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._file_of))

    def __len__(self) -> int:
        return len(self._file_of)


@contextmanager
def without_values() -> Iterator[None]:
    """A context in which modules are built on the meta device, and nothing is done about their initial values.

    In torch a random number on that device imports its compiler, which takes a second.
    """
    with torch.device("meta"), _NoInitialization():
        yield


@final
class _NoInitialization(TorchFunctionMode):
    """Functions of `torch.nn.init` return their tensor, in this thread."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        options = options or {}
        if getattr(function, "__module__", None) == nn.init.__name__:
            return arguments[0] if arguments else options["tensor"]
        return function(*arguments, **options)


def load_weights(
    network: PreTrainedModel,
    weights: Iterable[tuple[str, Tensor]],
    folder: Path,
    device: str | torch.device,
    dtype: torch.dtype,
    quantizer: Quantizer | None = None,
) -> None:
    """Fill in the weights of a network that was built on the meta device, each at once on its device and in its type.

    Memory is taken for what the file holds, not for what the config claims, and no weight is held twice.

    Args:
        network: on the meta device.
        weights: names and values of its parameters; copies of tied parameters may be missing.
        folder: where they come from, for messages.
        device, dtype: of the parameters; buffers keep their own type.
        quantizer: of the linear layers; None: nothing is quantized.

    Raises:
        UserError: the weights do not fit the network or are not finite, or there is nothing to quantize.
    """
    tied = set(network.all_tied_weights_keys)
    shapes = {name: value.shape for name, value in network.named_parameters(remove_duplicate=False)}
    if quantizer is not None:
        quantizer.prepare(network)
    copies: dict[str, Tensor] = {}
    for name, value in weights:
        if value.shape != shapes.get(name) or not value.is_floating_point():
            raise _misfit(name, folder)
        if name in tied:
            copies[name] = value
            continue
        parameter = nn.Parameter(value.to(device, dtype, copy=True))
        if not torch.isfinite(parameter).all():
            raise UserError(
                f"{WEIGHTS} in {str(folder)!r} holds numbers that are NaN, infinite or too large for {dtype}, first in "
                f"{name.removeprefix(WRAPPED)!r}: copy the checkpoint again, or export an earlier one of its run"
            )
        if quantizer is not None and quantizer.applies_to(network, name):
            quantizer.set_quantized(network, name, parameter.data)
            continue
        module, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(module), leaf, parameter)
    network.tie_weights()
    filled = dict(network.named_parameters(remove_duplicate=False))
    if missing := sorted(name for name, value in filled.items() if value.is_meta):
        raise _misfit(missing[0], folder)
    for name, value in copies.items():
        if not torch.equal(value.to(device, dtype), filled[name]):
            raise _misfit(name, folder)
    for part in network.modules():  # constants, such as rotary frequencies, are not in the file
        if unset := {name: value for name, value in part.named_buffers(recurse=False) if value.is_meta}:
            for name, value in unset.items():
                setattr(part, name, torch.empty_like(value, device=device))
            network._init_weights(part)


def _misfit(name: str, folder: Path) -> UserError:
    name = name.removeprefix(WRAPPED)
    return UserError(f"{WEIGHTS} in {str(folder)!r} does not fit {CONFIG}, first at {name!r}: copy both again")
