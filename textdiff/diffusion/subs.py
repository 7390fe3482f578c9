"""SUBS: from logits to the distribution of the clean token (arXiv:2406.07524)."""

import torch
from torch import Tensor


def subs(logits: Tensor, forbidden: Tensor) -> Tensor:
    """Normalised log-probs `[..., vocab]` without mass on forbidden tokens, in at least float32.

    Args:
        logits: `[..., vocab]`, any float type.
        forbidden: bool `[vocab]`, or of a shape that broadcasts: the mask, and whatever else is never content.
    """
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return precise.masked_fill(forbidden, -torch.inf).log_softmax(-1)
