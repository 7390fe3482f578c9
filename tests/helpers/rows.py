"""What the tests of training rows share."""

import torch


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two rows or batches are equal in every field."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
