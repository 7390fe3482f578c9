"""Results of an audit of the amortization gap: records that print as Markdown, JSON and a figure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

import torch

from textdiff.evaluation.statistics import Estimate
from textdiff.evaluation.table import Table, caption

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POLICY_HEAD = (
    "sampler", "NFE", "KL(q‖p)", "KL(p‖q)", "TV", "deficit", "ESS share", "log Z − E log Ẑ", "in sandwich", "SBC p"
)  # fmt: skip
METHOD_HEAD = ("method", "NFE", "ms per sample", "deficit")
QUANTILES = {"least": 0.0, "10 %": 0.1, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "90 %": 0.9, "most": 1.0}


@final
@dataclass(frozen=True)
class PolicyAudit:
    """Figures of one sampler, in nats per item unless said otherwise; None if they cannot be computed.

    Attributes:
        policy: name of the unmasking policy.
        label: the sampler in words.
        nfe: mean forward passes for a fill.
        deficit: E_p log p(z) - E_q log p(z): zero for posterior draws, and known for every sampler.
        kl_qp: KL(q || p) of the sampler's distribution q to the exact posterior p. If the order is random, that of the
            joint distribution of fill and order: an upper bound.
        kl_pq: KL(p || q), likewise.
        tv: total variation, 0 to 1.
        ess: effective share of the draws as weighted posterior samples, 0 to 1.
        log_z: log Z - E log Z_K, by which K weighted draws underestimate the log-evidence.
        jeffreys: KL(p || q) + KL(q || p), from the bounds on the log-evidence.
        bracketed: share of the items whose true log-evidence lies between the bounds, 3 standard errors wide.
        calibration: p-value of simulation-based calibration, the least of three statistics, times three.
        exact: the divergences are sums over all fills, not estimates from draws.
    """

    policy: str
    label: str
    nfe: float
    deficit: Estimate
    kl_qp: Estimate | None = None
    kl_pq: Estimate | None = None
    tv: Estimate | None = None
    ess: Estimate | None = None
    log_z: Estimate | None = None
    jeffreys: Estimate | None = None
    bracketed: float | None = None
    calibration: float | None = None
    exact: bool = False

    def cells(self) -> list[str]:
        """A row of the table."""
        estimates = (self.kl_qp, self.kl_pq, self.tv, self.deficit, self.ess, self.log_z)
        return [
            self.label,
            f"{self.nfe:.1f}",
            *map(_cell, estimates),
            "" if self.bracketed is None else f"{100 * self.bracketed:.0f} %",
            "" if self.calibration is None else f"{min(1.0, self.calibration):.2g}",
        ]


@final
@dataclass(frozen=True)
class MethodAudit:
    """Figures of an inference method that corrects a sampler.

    Attributes:
        label: the method and its proposal, in words.
        nfe: forward passes for a sample, those of the target included.
        seconds: for a sample.
        deficit: see `PolicyAudit`.
    """

    label: str
    nfe: float
    seconds: float
    deficit: Estimate

    def cells(self) -> list[str]:
        """A row of the table."""
        return [self.label, f"{self.nfe:.1f}", f"{1000 * self.seconds:.1f}", _cell(self.deficit)]


@final
@dataclass(frozen=True)
class Audit:
    """Figures of a prior's samplers on a world, as Markdown, JSON and a figure.

    Attributes:
        rows: one for each unmasking policy.
        repairs: one for each inference method.
        about: what was measured on.
    """

    rows: tuple[PolicyAudit, ...]
    repairs: tuple[MethodAudit, ...]
    about: Mapping[str, Any]

    def __str__(self) -> str:
        """Tables in Markdown."""
        parts = [caption(self.about), Table(POLICY_HEAD, [row.cells() for row in self.rows]).markdown()]
        if self.repairs:
            parts.append(Table(METHOD_HEAD, [repair.cells() for repair in self.repairs]).markdown())
        return "\n\n".join(parts)

    def json(self) -> str:
        """All figures as one JSON object."""
        return json.dumps(asdict(self), indent=1)

    def figure(self) -> Figure:
        """KL(q || p), or KL(p || q) if that is infinite everywhere, against forward passes: a line for each policy."""
        from matplotlib.figure import Figure

        qp = [(row, row.kl_qp) for row in self.rows if row.kl_qp is not None and math.isfinite(row.kl_qp.value)]
        pq = [(row, row.kl_pq) for row in self.rows if row.kl_pq is not None and math.isfinite(row.kl_pq.value)]
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for number, name in enumerate(dict.fromkeys(row.policy for row, _ in qp or pq)):
            points = sorted(((row.nfe, kl) for row, kl in qp or pq if row.policy == name), key=lambda point: point[0])
            axes.errorbar(
                [nfe for nfe, _ in points],
                [max(kl.value, 0.0) for _, kl in points],
                [kl.error for _, kl in points],
                label=name,
                linewidth=2 if name == "strided" else 1,
                marker="os^Dv<>p*X"[number % 10],
                markersize=5,
                capsize=2,
                color=f"C{number}",
            )
        axes.set_yscale("symlog", linthresh=0.1)
        axes.set_xlabel("forward passes for a fill")
        axes.set_ylabel(f"{'KL(q‖p)' if qp or not pq else 'KL(p‖q)'}, nats per gap")
        axes.set_title(f"Distance to the exact posterior: {self.about.get('world', '')}", fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
        return figure


@final
@dataclass(frozen=True)
class WeightAudit:
    """Importance weights of one prior's fills towards another prior's posterior, on held-out gaps.

    Attributes:
        ess: effective sample size of each gap.
        pareto_k: shape of the tail of the weights of each gap.
        log_evidence: estimate of each gap's log-evidence, from below, in nats.
        draws: fills of each gap.
        about: what was measured on.
    """

    ess: tuple[float, ...]
    pareto_k: tuple[float, ...]
    log_evidence: tuple[float, ...]
    draws: int
    about: Mapping[str, Any]

    def __str__(self) -> str:
        """A table in Markdown: quantiles over the gaps."""
        points = torch.tensor(list(QUANTILES.values())).double()
        ess = torch.tensor(self.ess).double().quantile(points)
        table = Table([f"ESS of {self.draws}", *QUANTILES], [[f"{value:.1f}" for value in ess]])
        k = torch.tensor([k for k in self.pareto_k if math.isfinite(k)]).double()
        reliable = "" if not len(k) else f"; Pareto k below 0.7 in {int((k < 0.7).sum())} of {len(k)} gaps"
        mean = f"mean {sum(self.ess) / len(self.ess):.1f}{reliable}"
        return "\n\n".join((caption(self.about), table.markdown(), mean))

    def json(self) -> str:
        """All figures as one JSON object."""
        return json.dumps(asdict(self), indent=1)


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return "∞" if math.isinf(estimate.value) else str(estimate)
