"""Denoisers that are known exactly: one has the conditionals of a joint distribution, one those of none.

Symbols are the ids `0 .. V-1`, the mask is `V`; with `null=True` the last symbol of a table is the null token, id
`V + 1` (so a table over `S` symbols has `V = S - 1` content ids). This is the numbering of `Vocabulary.toy`. Such a
table gives null a probability only where it may be predicted; elsewhere it conditions on the token being content.
"""

from abc import ABC, abstractmethod
from itertools import permutations
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from textdiff.denoisers import Denoiser


class _Table(ABC):
    """A denoiser with a table of answers for `symbols` symbols and `length` positions; further columns are padding."""

    def __init__(self, symbols: int, length: int, null: bool = False) -> None:
        self.symbols, self.length = symbols, length
        self.mask_id = symbols - null
        self.null_id = symbols if null else None
        self.size = symbols + 1
        self.ids = torch.tensor([i for i in range(self.size) if i != self.mask_id])  # symbol -> token id
        self.outcomes = self.ids[torch.cartesian_prod(*[torch.arange(symbols)] * length).view(-1, length)]
        self._digit = torch.empty(self.size, dtype=torch.long)  # token id -> symbol; the mask is the last digit
        self._digit[self.ids], self._digit[self.mask_id] = torch.arange(symbols), symbols
        self._stride = self.size ** torch.arange(length - 1, -1, -1)

    def log_probs(self, canvas: Tensor, observed: Tensor, where: Tensor | None = None, null: bool = False) -> Tensor:
        """See `textdiff.denoisers.Denoiser`; float64, one-hot at visible positions."""
        masked = (canvas == self.mask_id) & ~observed
        if masked[:, self.length :].any():
            raise ValueError(f"masked position past the table's length {self.length}")
        out = F.one_hot(canvas, self.size).double().log()
        inner = torch.full((*canvas[:, : self.length].shape, self.size), -torch.inf, dtype=torch.float64)
        log_probs = self._conditionals(self._digit[canvas[:, : self.length]])
        inner[..., self.ids] = log_probs if null or self.null_id is None else _without_last(log_probs)
        out[:, : self.length] = inner.where(masked[:, : self.length, None], out[:, : self.length])
        return out if where is None else out[where]

    @abstractmethod
    def _conditionals(self, digits: Tensor) -> Tensor:
        """Log-probs of the symbol at each position given the others, `[batch, length] -> [batch, length, symbols]`."""


@final
class TableOracle(_Table):
    """The exact conditional marginals of a joint distribution `[symbols] * length`, which it normalises.

    `outcomes [symbols ** length, length]` are all complete texts. On a canvas of probability zero every symbol is
    equally likely.
    """

    def __init__(self, joint: Tensor, null: bool = False) -> None:
        super().__init__(joint.shape[0], joint.ndim, null)
        self.joint = joint.double() / joint.double().sum()
        evidence = self.joint
        for axis in range(joint.ndim):  # the last index of an axis stands for "masked": summed out
            evidence = torch.cat([evidence, evidence.sum(axis, keepdim=True)], axis)
        self._log_evidence = evidence.log().flatten()

    @classmethod
    def random(
        cls, symbols: int = 4, length: int = 4, seed: int = 0, sharpness: float = 1.0, null: bool = False
    ) -> "TableOracle":
        """A joint whose log-probs are independent normals of standard deviation `sharpness`, up to a constant."""
        logits = torch.randn([symbols] * length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        return cls((sharpness * logits).exp(), null)

    def log_prob(self, canvas: Tensor) -> Tensor:
        """Log-probability of the visible tokens, nats `[batch]`; of the text, where nothing is masked."""
        return self._log_evidence[self._digit[canvas[:, : self.length]] @ self._stride]

    def posterior(self, canvas: Tensor) -> Tensor:
        """Probability of each of `outcomes` given the visible tokens, `[batch, symbols ** length]`."""
        canvas = canvas[:, None, : self.length]
        agree = ((canvas == self.mask_id) | (canvas == self.outcomes)).all(-1)
        weights = agree * self.joint.flatten()
        return weights / weights.sum(-1, keepdim=True)

    def _conditionals(self, digits: Tensor) -> Tensor:
        others = (digits @ self._stride)[:, None] - digits * self._stride
        joint = self._log_evidence[others[..., None] + torch.arange(self.symbols) * self._stride[:, None]]
        given = self._log_evidence[others + self.symbols * self._stride]
        uniform = -torch.tensor(float(self.symbols), dtype=torch.float64).log()
        return (joint - given[..., None]).where(given[..., None] > -torch.inf, uniform)


@final
class TableDenoiser(_Table):
    """Arbitrary but fixed normalised answers for every canvas: conditionals of no joint distribution."""

    def __init__(self, symbols: int = 3, length: int = 4, seed: int = 0, null: bool = False) -> None:
        super().__init__(symbols, length, null)
        shape = (self.size**length, length, symbols)
        logits = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        self._table = logits.log_softmax(-1)

    def _conditionals(self, digits: Tensor) -> Tensor:
        return self._table[digits @ self._stride]


def _without_last(log_probs: Tensor) -> Tensor:
    """Log-probs `[..., symbols]` given that the last symbol does not occur; uniform if only it could."""
    others = log_probs[..., :-1]
    total = others.logsumexp(-1, keepdim=True)
    uniform = -torch.tensor(float(others.shape[-1]), dtype=log_probs.dtype).log()
    return F.pad((others - total).where(total > -torch.inf, uniform), (0, 1), value=-torch.inf)


def order_log_probs(denoiser: Denoiser, tokens: Tensor, observed: Tensor, mask_id: int, null: bool = False) -> Tensor:
    """Log-prob of one text's n unobserved tokens along every order, one token per step: brute force, `[n!]`."""
    totals = []
    for order in permutations((~observed).nonzero()[:, 0].tolist()):
        canvas = tokens.masked_fill(~observed, mask_id)
        total = torch.zeros((), dtype=torch.float64)
        for position in order:
            log_probs = denoiser.log_probs(canvas[None], observed[None], null=null)[0, position]
            total = total + log_probs[tokens[position]]
            canvas = canvas.clone()
            canvas[position] = tokens[position]
        totals.append(total)
    return torch.stack(totals)
