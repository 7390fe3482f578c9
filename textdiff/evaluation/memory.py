"""Peak memory of a piece of work."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Peak:
    """Bytes at the peak beyond what was held at the start; None if the system does not report it."""

    bytes: int | None = None


@contextmanager
def peak(device: torch.device) -> Iterator[Peak]:
    """Measure the block: allocated memory of a CUDA device, otherwise resident memory of the process (Linux).

    Memory that an allocator keeps for reuse does not count; on Linux it first returns all of it to the system.
    """
    found = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield found
        found.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        _RESET.write_text("5", encoding="ascii")  # sets the high-water mark to what is resident now
        before = _resident("VmRSS")
    except (OSError, AttributeError):
        yield found
        return
    yield found
    found.bytes = max(0, _resident("VmHWM") - before)


def _resident(name: str) -> int:
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])
