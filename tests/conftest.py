"""One thread a process: pytest-xdist runs a worker on each core, and threads of torch would wait for each other.

No test finds what another one has left in the process.
"""

import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, for subprocesses as well

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """End the process group that a `Trainer` leaves, and restore the environment.

    A process that a later test starts would inherit `MASTER_PORT`, on which this one listens, and a fork the group.
    """
    before = os.environ.copy()
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)
