"""A causal network and a denoiser as one: what comes next by the one, what the text after the gap adds by the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from textdiff.denoisers.denoiser import CachesEvidence, passes
from textdiff.denoisers.guidance import Placed
from textdiff.diffusion import subs
from textdiff.errors import UserError
from textdiff.models import KeyValueCache, Transformer
from textdiff.models.attention import compact, last_before
from textdiff.models.cache import EvidenceCache
from textdiff.text import Vocabulary


@final
class ProductOfExperts:
    """A denoiser whose answer for the leftmost masked slot is joined with that of a causal network.

    By Bayes' rule p(z | before, after) is p(z | before) times what the text after the gap says of z,
    p(after | before, z) / p(after | before). The second factor is what the denoiser d answers with that text over what
    it answers without; of the first a causal network c knows more. So the answer is, up to a constant,

        share * log c(z | before) + (1 - share) * log d(z | before)
            + tilt * (log d(z | before, after) - log d(z | before))

    With share 1 the causal network proposes and the denoiser tilts, as twists do in sequential Monte Carlo (Zhao et
    al., arXiv:2404.17546); below 1 p(z | before) is the normalised geometric mean of both networks, which is better
    than either where they err in different places. If both are exact, so is the answer, with tilt 1, for any share.
    Where the denoiser errs, so does the difference of its two answers, and more than either: a tilt below 1 believes it
    less. Slots further right and lengths are the denoiser's alone, so all of it counts where slots are filled one by
    one from left to right.

    Args:
        denoiser: asked twice in a step, with and without the text after the gap.
        causal: an autoregressive network with the same tokens.
        vocabulary: tells text from mask, null and padding.
        share: of the causal network in p(z | before), 0 to 1; 0 with tilt 1 leaves the denoiser as it is.
        tilt: the power of what the text after the gap says, 0 or more.

    Raises:
        UserError: another share or tilt, or no padding token.
    """

    def __init__(
        self, denoiser: Placed, causal: Transformer, vocabulary: Vocabulary, share: float, tilt: float = 1.0
    ) -> None:
        if not 0 <= share <= 1:
            raise UserError(f"share is {share}, expected a number from 0 to 1")
        if not 0 <= tilt < float("inf"):
            raise UserError(f"tilt is {tilt}, expected a number, 0 or more")
        if vocabulary.pad is None:
            raise UserError("to join a denoiser with a causal network, the vocabulary needs a padding token")
        self.denoiser, self.causal, self.share, self.tilt = denoiser, causal, share, tilt
        self._mask, self._null, self._pad = vocabulary.mask, vocabulary.null, vocabulary.pad

    def encode_evidence(self, canvas: Tensor, observed: Tensor) -> ExpertEvidence | None:
        """See `textdiff.diffusion.CachesEvidence`: each network reads its share of the evidence ahead of the gaps."""
        if not isinstance(self.denoiser, CachesEvidence):
            return None
        whole, runs = self.denoiser.encode_evidence(canvas, observed), _run(observed)
        before = [
            self.denoiser.encode_evidence(*self._cut(canvas, observed, observed & (runs >= number)))
            for number in range(1, int(runs.max()) + 1)
        ]
        return ExpertEvidence(whole, before, self._read_prefix(canvas, observed))

    def log_probs(
        self,
        canvas: Tensor,
        observed: Tensor,
        where: Tensor | None = None,
        null: bool = False,
        evidence: ExpertEvidence | None = None,
    ) -> Tensor:
        """See `textdiff.denoisers.Denoiser`; `evidence` is what `read_evidence` has read."""
        asked = torch.ones_like(observed) if where is None else where
        told = self._ask(canvas, observed, asked, null, None if evidence is None else evidence.whole)
        masked = (canvas == self._mask) & ~observed
        first = masked.int().argmax(dim=1)
        next_ = masked & asked & (torch.arange(canvas.shape[1], device=canvas.device) == first[:, None])
        rows = next_.any(dim=1).nonzero()[:, 0]
        if not null and not self._idle and len(rows):
            at = (asked.flatten().cumsum(0) - 1).view_as(asked)[next_]
            there = canvas[rows], observed[rows], next_[rows]
            answer = self._joined(told[at], *there, None if evidence is None else evidence.select(rows))
            told = told.index_copy(0, at, answer)
        return told if where is not None else told.view(*canvas.shape, -1)

    def passes(self, null: bool) -> int:
        """See `textdiff.denoisers.Composed`: lengths are the denoiser's alone."""
        own = passes(self.denoiser, null)
        return own if null or self._idle else 2 * own + (self.share > 0)

    @property
    def _idle(self) -> bool:
        """Whether nothing is added to the denoiser's answer."""
        return self.share == 0 and self.tilt == 1

    @property
    def device(self) -> torch.device:
        """Where both networks live."""
        return self.denoiser.device

    @property
    def context(self) -> int | None:
        """The longest text that both read."""
        context = self.denoiser.context
        return self.causal.context if context is None else min(context, self.causal.context)

    def _ask(self, canvas: Tensor, observed: Tensor, where: Tensor, null: bool, evidence: Any) -> Tensor:
        known = {} if evidence is None else {"evidence": evidence}
        return self.denoiser.log_probs(canvas, observed, where, null, **known)

    def _joined(
        self, told: Tensor, canvas: Tensor, observed: Tensor, first: Tensor, evidence: ExpertEvidence | None
    ) -> Tensor:
        """Answers `[rows, vocab]` for the `first` masked slot of each row; `told` are the denoiser's."""
        runs = _run(observed)
        run = runs[first]
        untold = torch.empty_like(told)
        for number in run.unique().tolist():
            rows = (run == number).nonzero()[:, 0]
            cut = self._cut(canvas[rows], observed[rows], observed[rows] & (runs[rows] >= number))
            read = None if evidence is None else evidence.before[number - 1]
            untold[rows] = self._ask(*cut, first[rows], False, None if read is None else read.select(rows))
        before = untold
        if self.share > 0:
            heard = self._prefix_log_probs(canvas, observed, first, None if evidence is None else evidence.prefix)
            before = heard if self.share == 1 else self.share * heard + (1 - self.share) * untold
        never = told == -torch.inf
        return (before + self.tilt * (told - untold)).masked_fill(never, -torch.inf).log_softmax(dim=-1)

    def _cut(self, canvas: Tensor, observed: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """The canvases as if they ended before the first column of `after`."""
        gone = after.cumsum(dim=1) > 0
        return canvas.masked_fill(gone, self._pad), observed | gone

    def _real(self, canvas: Tensor) -> Tensor:
        return (canvas != self._mask) & (canvas != self._pad) & (canvas != (-1 if self._null is None else self._null))

    def _prefix_log_probs(
        self, canvas: Tensor, observed: Tensor, first: Tensor, prefix: EvidenceCache | None
    ) -> Tensor:
        """Log-probs `[rows, vocab]` of the causal network for the `first` masked slots, given what stands before."""
        known = self._real(canvas) & (first.cumsum(dim=1) == 0)
        if not known.any(dim=1).all():
            raise ValueError("a row begins with a gap: a causal network needs a first token, such as bos")
        columns = torch.arange(canvas.shape[1], device=canvas.device)
        new = known if prefix is None else known & (columns >= self._last_of_prefix(canvas, observed))
        at, inside = compact(new)
        positions = (known.cumsum(dim=1) - 1).clamp(min=0).gather(1, at)
        states = self.causal.hidden(canvas.gather(1, at), _earlier(inside), positions, prefix)
        last = states[torch.arange(len(at), device=at.device), inside.sum(dim=1) - 1]
        return subs(self.causal.head(last), self.causal.forbidden_mask(last.device, null=False))

    def _last_of_prefix(self, canvas: Tensor, observed: Tensor) -> Tensor:
        """Column `[rows, 1]` of the last token before the first gap, -1 where there is none."""
        begin = (~observed).int().argmax(dim=1, keepdim=True)
        return last_before(self._real(canvas) & observed).gather(1, begin)

    def _read_prefix(self, canvas: Tensor, observed: Tensor) -> EvidenceCache | None:
        """What the causal network makes of the text before the first gap, but for its last token."""
        columns = torch.arange(canvas.shape[1], device=canvas.device)
        kept = self._real(canvas) & (columns < self._last_of_prefix(canvas, observed))
        if not kept.any():
            return None
        texts, text = canvas.masked_fill(~kept, -1).unique(dim=0, return_inverse=True)
        at, inside = compact(texts >= 0)
        store = KeyValueCache(at.shape[1])
        positions = torch.arange(at.shape[1], device=at.device).expand_as(at)
        self.causal.hidden(texts.gather(1, at).clamp(min=0), _earlier(inside), positions, store)
        bias = None
        if not inside.all():
            bias = torch.zeros(inside.shape, device=at.device).masked_fill(~inside, -torch.inf)[:, None, None]
        return EvidenceCache.of(store.layers, bias, text)


@final
@dataclass(frozen=True, eq=False)
class ExpertEvidence:
    """What `ProductOfExperts` has read of the evidence of some rows.

    Attributes:
        whole: the denoiser, all of it.
        before: the denoiser, what stands before the end of the first gap, of the second, and so on.
        prefix: the causal network, what stands before the first gap but for its last token.
    """

    whole: Any
    before: list[Any]
    prefix: EvidenceCache | None

    def select(self, rows: Tensor) -> ExpertEvidence:
        """The same of some of the rows, in that order."""

        def chosen(read: Any) -> Any:
            return None if read is None else read.select(rows)

        return ExpertEvidence(chosen(self.whole), [chosen(read) for read in self.before], chosen(self.prefix))


def _run(observed: Tensor) -> Tensor:
    """How many runs of gap slots begin at or before each column, `[rows, length]`."""
    begins = ~observed & F.pad(observed[:, :-1], (1, 0), value=True)
    return begins.cumsum(dim=1)


def _earlier(inside: Tensor) -> Tensor:
    """Who looks at whom, from left to right: bool `[rows, length, length]`; padding looks at itself, too."""
    length = inside.shape[1]
    everyone = torch.ones(length, length, dtype=torch.bool, device=inside.device)
    return (inside[:, None] & everyone.tril()) | torch.eye(length, dtype=torch.bool, device=inside.device)
