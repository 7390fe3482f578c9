"""One thread a process: pytest-xdist runs a worker on each core, and threads of torch would wait for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, for subprocesses as well

import torch

torch.set_num_threads(1)
