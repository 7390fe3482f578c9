"""Filling the templates of rows: what `textdiff predict` does with each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textdiff.data import Row
from textdiff.errors import UserError
from textdiff.files.fields import whole
from textdiff.posterior import Posterior, Prior, WeightedSamples, infill_batch
from textdiff.posterior.posterior import COUNT
from textdiff.samplers import Tempering

ADDED_FIELDS = ("template", "seed", "kind", "policy", "samples", "error")
"""Fields of a filled row that are not from its file."""


@dataclass(frozen=True)
class FillOptions:
    """How `textdiff predict` fills templates, see `Prior.infill`.

    Args:
        n: fills of each template.
        steps: most denoising steps; None: the policy's default.
        policy: name of the unmasking policy; None: the default.
        seed: of the draws; row i draws from `seed + i`, whatever else is in its batch.
        temperature, top_p, top_k: sharpen each draw.

    Raises:
        UserError: a number out of range.
    """

    n: int = 1
    steps: int | None = None
    policy: str | None = None
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        COUNT.check("model.fill: n", self.n)
        whole(0, 2**63).check("model.fill: seed", self.seed)
        _ = self.tempering

    @property
    def tempering(self) -> Tempering:
        """What sharpens the draws."""
        return Tempering(self.temperature, self.top_p, self.top_k)

    def configured(self, prior: Prior) -> Prior:
        """The prior with the policy and the steps of these options.

        Raises:
            UserError: there is no such policy, or it has no steps.
        """
        return prior if self.policy is None and self.steps is None else prior.with_policy(self.policy, self.steps)


def fill_rows(prior: Prior, rows: Sequence[Row], options: FillOptions) -> list[dict[str, Any]]:
    """Each row with its own fields, `template`, `seed`, `kind` (what `log_q` is), `policy` and `samples`.

    A sample has `text`, `fills` (one for each gap) and `log_q` in nats, the same as `textdiff infill TEMPLATE --seed
    SEED` gives. A row that cannot be filled has `error` instead, and does not stop the others.
    """
    posteriors: dict[int, Posterior] = {}
    errors: dict[int, str] = {}
    for row in rows:
        try:
            if taken := [name for name in row.fields if name in ADDED_FIELDS and not row.error]:
                raise UserError(f"the row has a field {taken[0]!r}, which predictions have, too: give it another name")
            if row.error is not None:
                raise UserError(row.error)
            posteriors[row.index] = prior.given(row.template)
        except UserError as error:
            errors[row.index] = error.plain
    fills = _fills(posteriors, options, errors)
    return [_record(row, fills.get(row.index), errors.get(row.index), options) for row in rows]


def _fills(
    posteriors: Mapping[int, Posterior], options: FillOptions, errors: dict[int, str]
) -> dict[int, WeightedSamples]:
    """Fills by row. If the batch fails, each row is filled by itself, and `errors` gets those that fail."""
    try:
        seeds = [options.seed + index for index in posteriors]
        fills = infill_batch(list(posteriors.values()), options.n, seeds, options.tempering)
        return dict(zip(posteriors, fills, strict=True))
    except UserError as error:
        if len(posteriors) == 1:
            errors[next(iter(posteriors))] = error.plain
            return {}
        alone = [_fills({index: posterior}, options, errors) for index, posterior in posteriors.items()]
        return {index: samples for fills in alone for index, samples in fills.items()}


def _record(row: Row, fills: WeightedSamples | None, error: str | None, options: FillOptions) -> dict[str, Any]:
    """The fields of a row that is written."""
    record = {**row.fields, "template": row.template, "seed": options.seed + row.index}
    if fills is None:
        return {**record, "error": error}
    scores = [None] * len(fills) if fills.log_q is None else fills.log_q.tolist()
    samples = [
        {"text": text.text, "fills": text.fills, "log_q": score} for text, score in zip(fills, scores, strict=True)
    ]
    return {**record, "kind": fills.kind, "policy": fills.label, "samples": samples}
