"""A product of experts: a causal network for the text before a slot, a denoiser for the text after its gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from textdiff.denoisers.denoiser import CachesEvidence, DenoisingNetwork, passes
from textdiff.diffusion import subs
from textdiff.errors import UserError
from textdiff.files.fields import NOT_NEGATIVE, PROBABILITY
from textdiff.models import KeyValueCache, Transformer
from textdiff.models.attention import compact, last_before
from textdiff.models.cache import EvidenceCache
from textdiff.text import Vocabulary


@final
class ProductOfExperts:
    """A denoiser whose distribution of the leftmost masked slot is multiplied with that of a causal network.

    By Bayes' rule p(z | prefix, suffix) is p(z | prefix) times p(suffix | prefix, z) / p(suffix | prefix), where the
    suffix is the text after the gap. The second factor is the ratio of the denoiser d's answers with and without the
    suffix; for the first, a causal network c is the better model. So the log-probs are, up to a constant,

        share * log c(z | prefix) + (1 - share) * log d(z | prefix)
            + tilt * (log d(z | prefix, suffix) - log d(z | prefix))

    With share 1 the causal network proposes and the denoiser tilts, as twists do in sequential Monte Carlo (Zhao et
    al., arXiv:2404.17546); below 1 p(z | prefix) is the normalised geometric mean of both networks, which is better
    than either where their errors differ. If both are exact, so is the product with tilt 1, for any share. The errors
    of the denoiser's two answers add up in their difference: a tilt below 1 trusts it less. Slots further right and
    lengths are the denoiser's alone, so the product takes full effect where slots are filled from left to right.

    Args:
        denoiser: evaluated twice in a step, with and without the text after the gap.
        causal: an autoregressive network with the same tokens.
        vocabulary: distinguishes text from mask, null and padding.
        share: of the causal network in p(z | prefix), 0 to 1; 0 with tilt 1 leaves the denoiser unchanged.
        tilt: the power of the suffix's factor, 0 or more.

    Raises:
        UserError: another share or tilt, or no padding token.
    """

    def __init__(
        self, denoiser: DenoisingNetwork, causal: Transformer, vocabulary: Vocabulary, share: float, tilt: float = 1.0
    ) -> None:
        PROBABILITY.check("share", share)
        NOT_NEGATIVE.check("tilt", tilt)
        if vocabulary.pad is None:
            raise UserError("to join a denoiser with a causal network, the vocabulary needs a padding token")
        self.denoiser, self.causal, self.share, self.tilt = denoiser, causal, share, tilt
        self._mask, self._null, self._pad = vocabulary.mask, vocabulary.null, vocabulary.pad

    def encode_evidence(self, canvas: Tensor, observed: Tensor) -> ExpertEvidence | None:
        """See `textdiff.denoisers.CachesEvidence`: each network encodes its part of the evidence."""
        if not isinstance(self.denoiser, CachesEvidence):
            return None
        whole, runs = self.denoiser.encode_evidence(canvas, observed), _gaps_begun(observed)
        without_suffix = [
            self.denoiser.encode_evidence(*self._cut(canvas, observed, observed & (runs >= number)))
            for number in range(1, int(runs.max()) + 1)
        ]
        return ExpertEvidence(whole, without_suffix, self._encode_prefix(canvas, observed))

    def log_probs(
        self,
        canvas: Tensor,
        observed: Tensor,
        where: Tensor | None = None,
        null: bool = False,
        evidence: ExpertEvidence | None = None,
    ) -> Tensor:
        """See `textdiff.denoisers.Denoiser`; `evidence` is what `encode_evidence` returned."""
        asked = torch.ones_like(observed) if where is None else where
        log_probs = self._denoise(canvas, observed, asked, null, None if evidence is None else evidence.whole)
        masked = (canvas == self._mask) & ~observed
        first = masked.int().argmax(dim=1)
        next_ = masked & asked & (torch.arange(canvas.shape[1], device=canvas.device) == first[:, None])
        rows = next_.any(dim=1).nonzero()[:, 0]
        if not null and not self._idle and len(rows):
            at = (asked.flatten().cumsum(0) - 1).view_as(asked)[next_]
            query = canvas[rows], observed[rows], next_[rows]
            product = self._product(log_probs[at], *query, None if evidence is None else evidence.view(rows))
            log_probs = log_probs.index_copy(0, at, product)
        return log_probs if where is not None else log_probs.view(*canvas.shape, -1)

    def passes(self, null: bool) -> int:
        """See `textdiff.denoisers.Composed`: lengths are the denoiser's alone."""
        own = passes(self.denoiser, null)
        return own if null or self._idle else 2 * own + (self.share > 0)

    @property
    def _idle(self) -> bool:
        """Whether the product is the denoiser itself."""
        return self.share == 0 and self.tilt == 1

    @property
    def device(self) -> torch.device:
        """Where both networks live."""
        return self.denoiser.device

    @property
    def context(self) -> int | None:
        """The longest text that both networks take."""
        context = self.denoiser.context
        return self.causal.context if context is None else min(context, self.causal.context)

    def _denoise(self, canvas: Tensor, observed: Tensor, where: Tensor, null: bool, evidence: Any) -> Tensor:
        """Log-probs of the denoiser."""
        cached = {} if evidence is None else {"evidence": evidence}
        return self.denoiser.log_probs(canvas, observed, where, null, **cached)

    def _product(
        self, with_suffix: Tensor, canvas: Tensor, observed: Tensor, first: Tensor, evidence: ExpertEvidence | None
    ) -> Tensor:
        """Log-probs `[rows, vocab]` of the `first` masked slot of each row.

        Args:
            with_suffix: the denoiser's, given all evidence, `[rows, vocab]`.
            canvas, observed, first: `[rows, length]`.
            evidence: of these rows.
        """
        runs = _gaps_begun(observed)
        run = runs[first]
        without_suffix = torch.empty_like(with_suffix)
        for number in run.unique().tolist():
            rows = (run == number).nonzero()[:, 0]
            cut = self._cut(canvas[rows], observed[rows], observed[rows] & (runs[rows] >= number))
            encoded = None if evidence is None else evidence.without_suffix[number - 1]
            encoded = None if encoded is None else encoded.view(rows)
            without_suffix[rows] = self._denoise(*cut, first[rows], False, encoded)
        next_log_probs = without_suffix
        if self.share > 0:
            cache = None if evidence is None else evidence.prefix
            causal = self._prefix_log_probs(canvas, observed, first, cache)
            next_log_probs = causal if self.share == 1 else self.share * causal + (1 - self.share) * without_suffix
        never = with_suffix == -torch.inf
        tilted = next_log_probs + self.tilt * (with_suffix - without_suffix)
        return tilted.masked_fill(never, -torch.inf).log_softmax(dim=-1)

    def _cut(self, canvas: Tensor, observed: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """The canvases as if they ended before the first column of `after`."""
        gone = after.cumsum(dim=1) > 0
        return canvas.masked_fill(gone, self._pad), observed | gone

    def _real(self, canvas: Tensor) -> Tensor:
        """Positions that hold text."""
        return (canvas != self._mask) & (canvas != self._pad) & (canvas != (-1 if self._null is None else self._null))

    def _prefix_log_probs(
        self, canvas: Tensor, observed: Tensor, first: Tensor, prefix: EvidenceCache | None
    ) -> Tensor:
        """Log-probs `[rows, vocab]` of the causal network for the `first` masked slots, given the text before them."""
        known = self._real(canvas) & (first.cumsum(dim=1) == 0)
        if not known.any(dim=1).all():
            raise ValueError("a row begins with a gap: a causal network needs a first token, such as bos")
        columns = torch.arange(canvas.shape[1], device=canvas.device)
        new = known if prefix is None else known & (columns >= self._last_of_prefix(canvas, observed))
        at, inside = compact(new)
        positions = (known.cumsum(dim=1) - 1).clamp(min=0).gather(1, at)
        states = self.causal.hidden(canvas.gather(1, at), _causal_mask(inside), positions, prefix)
        last = states[torch.arange(len(at), device=at.device), inside.sum(dim=1) - 1]
        return subs(self.causal.head(last), self.causal.forbidden_mask(last.device, null=False))

    def _last_of_prefix(self, canvas: Tensor, observed: Tensor) -> Tensor:
        """Column `[rows, 1]` of the last token before the first gap, -1 where there is none."""
        begin = (~observed).int().argmax(dim=1, keepdim=True)
        return last_before(self._real(canvas) & observed).gather(1, begin)

    def _encode_prefix(self, canvas: Tensor, observed: Tensor) -> EvidenceCache | None:
        """Keys and values of the causal network for the text before the first gap, except its last token."""
        columns = torch.arange(canvas.shape[1], device=canvas.device)
        kept = self._real(canvas) & (columns < self._last_of_prefix(canvas, observed))
        if not kept.any():
            return None
        texts, text = canvas.masked_fill(~kept, -1).unique(dim=0, return_inverse=True)
        at, inside = compact(texts >= 0)
        store = KeyValueCache(at.shape[1])
        positions = torch.arange(at.shape[1], device=at.device).expand_as(at)
        self.causal.hidden(texts.gather(1, at).clamp(min=0), _causal_mask(inside), positions, store)
        bias = None
        if not inside.all():
            bias = torch.zeros(inside.shape, device=at.device).masked_fill(~inside, -torch.inf)[:, None, None]
        return EvidenceCache.of(store.layers, bias, text)


@final
@dataclass(frozen=True, eq=False)
class ExpertEvidence:
    """The evidence of some rows as `ProductOfExperts` has encoded it.

    Attributes:
        whole: by the denoiser, all of it.
        without_suffix: by the denoiser, the text before the end of the first gap, of the second, and so on.
        prefix: by the causal network, the text before the first gap except its last token.
    """

    whole: Any
    without_suffix: list[Any]
    prefix: EvidenceCache | None

    def select(self, rows: Tensor) -> ExpertEvidence:
        """The same for some of the rows, in that order."""
        return self._each(lambda encoded: encoded.select(rows))

    def view(self, rows: Tensor) -> ExpertEvidence:
        """See `CachesEvidence`."""
        return self._each(lambda encoded: encoded.view(rows))

    def _each(self, change: Callable[[Any], Any]) -> ExpertEvidence:
        whole, *others = (
            None if encoded is None else change(encoded) for encoded in (self.whole, self.prefix, *self.without_suffix)
        )
        return ExpertEvidence(whole, others[1:], others[0])


def _gaps_begun(observed: Tensor) -> Tensor:
    """Number of runs of gap slots that begin at or before each column, `[rows, length]`."""
    begins = ~observed & F.pad(observed[:, :-1], (1, 0), value=True)
    return begins.cumsum(dim=1)


def _causal_mask(inside: Tensor) -> Tensor:
    """Attention mask from left to right, bool `[rows, length, length]`; padding attends to itself too."""
    length = inside.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=inside.device)
    return (inside[:, None] & earlier.tril()) | torch.eye(length, dtype=torch.bool, device=inside.device)
