"""Where a network computes, and in which type of numbers."""

from __future__ import annotations

from typing import Any

import torch

from textdiff.errors import UserError, reason

DTYPES = ("float32", "bfloat16", "float16", "float64")
"""Types that networks compute in."""


def network_device(device: Any) -> torch.device:
    """The device that an argument names.

    Raises:
        TypeError: it is no name of a device.
        UserError: there is no such device.
    """
    if not isinstance(device, str | torch.device) and (not isinstance(device, int) or isinstance(device, bool)):
        raise TypeError(f"device is {device!r:.80}, expected the name of a device, such as 'cpu' or 'cuda'")
    try:
        found = torch.device(device)
        if found.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(0, device=found)
    except Exception as error:  # torch raises several kinds
        raise UserError(f"device {str(device)!r:.80} cannot be used ({reason(error)})") from error
    return found


def network_dtype(dtype: Any) -> torch.dtype:
    """The type of weights that an argument names.

    Raises:
        TypeError: it is no type of numbers.
        UserError: it is one that networks do not compute in.
    """
    if not isinstance(dtype, str | torch.dtype):
        raise TypeError(f"dtype is {dtype!r:.80}, expected a type of numbers, such as torch.bfloat16 or 'bfloat16'")
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise UserError(
            f"dtype is {name!r:.80}, expected one of {', '.join(DTYPES)}; quantization=8 stores weights in 8 bits"
        )
    return getattr(torch, name)
