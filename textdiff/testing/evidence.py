"""The laws of evidence: one likelihood for each text, whoever shares the batch, and `&` adds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from textdiff.evidence import Evidence
from textdiff.posterior import Prior


def check_evidence(evidence: Evidence, prior: Prior, *, draws: int = 16, seed: int = 0) -> Tensor:
    """Check evidence on fills that a prior draws given its fixed tokens.

    Its log-likelihood is one float64 for each text, a number below infinity; it does not depend on the batch; the
    look-ahead on partly masked texts is finite; and evidence joined with itself by `&` counts twice.

    Args:
        evidence: fixes some tokens, as in `Observed("...[gap]...") & Reward(f)`.
        prior: draws the fills.
        draws: how many.
        seed: of the draws.

    Returns:
        The log-likelihoods, float64 `[draws]`, in nats; -inf for fills that a hard constraint rules out.

    Raises:
        AssertionError: a law does not hold; the message has the figures.
    """
    posterior = prior.given(evidence)
    canvas = posterior.canvas.free()
    tokens = prior.sample(canvas.repeat(draws), torch.arange(seed, seed + draws)).tokens
    found = posterior.log_likelihood(tokens)
    assert found.shape == (draws,), f"the log-likelihood of {draws} texts has shape {list(found.shape)}"
    assert found.dtype == torch.float64, f"the log-likelihood is {found.dtype}, expected float64"
    assert not bool((found.isnan() | (found == math.inf)).any()), "a log-likelihood is NaN or infinite"
    alone = torch.cat([posterior.log_likelihood(row) for row in tokens[:, None]])
    assert torch.allclose(alone, found, rtol=1e-6, atol=1e-6), "a log-likelihood depends on the other texts"
    back = posterior.log_likelihood(tokens.flip(0)).flip(0)
    assert torch.allclose(back, found, rtol=1e-6, atol=1e-6), "a log-likelihood depends on the order of the texts"
    twice = evidence.log_likelihood(tokens, posterior.decode) * 2
    both = (evidence & evidence).log_likelihood(tokens, posterior.decode)
    assert torch.allclose(both, twice, rtol=1e-6, atol=1e-6), "evidence joined with itself does not count twice"
    masked = canvas.slots.repeat(draws, 1) & (torch.arange(canvas.tokens.shape[1]) % 2 == 0)
    partly = tokens.masked_fill(masked, prior.vocabulary.mask)
    ahead = evidence.log_potential(partly, masked, posterior.decode)
    assert bool(ahead.isfinite().all()), "the look-ahead on partly masked texts is not finite"
    return found
