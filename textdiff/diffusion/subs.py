"""SUBS: from logits to a law of the clean token (arXiv:2406.07524)."""

import torch
from torch import Tensor


def subs(logits: Tensor, forbidden: Tensor, canvas: Tensor | None = None, visible: Tensor | None = None) -> Tensor:
    """Normalised log-probs without mass on forbidden tokens, in at least float32.

    Args:
        logits: `[..., vocab]`, any float type.
        forbidden: Bool `[vocab]`: the mask, and whatever else is never content.
        canvas: Token ids `[...]`; needed with `visible` only.
        visible: Bool `[...]`: positions whose law is a one-hot copy of the canvas (carry-over); none if None.
    """
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    log_probs = precise.masked_fill(forbidden, -torch.inf).log_softmax(-1)
    if visible is None:
        return log_probs
    assert canvas is not None, "visible tokens are copied from the canvas"
    copies = torch.full_like(log_probs, -torch.inf).scatter(-1, canvas[..., None], 0.0)
    return torch.where(visible[..., None], copies, log_probs)
