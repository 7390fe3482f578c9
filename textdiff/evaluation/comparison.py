"""What a comparison found: records that print as Markdown, JSON, a figure and a page of HTML."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESAMPLES = 2000
"""Bootstrap samples of the gaps behind each interval."""

TEXT = {"exact": "exact", "bleu": "BLEU-4", "gleu": "GLEU-4", "chrf": "chrF", "rouge_l": "ROUGE-L", "empty": "empty"}


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval over gaps."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Cell:
    """One measurement of one candidate.

    Attributes:
        values: by name, one number for each gap; empty if it cannot be had.
        figures: by name, one number for all.
        texts: by name, one text for each gap.
    """

    values: dict[str, list[float]]
    figures: dict[str, float] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class CandidateResult:
    """All measurements of one candidate.

    Attributes:
        name: of the candidate.
        label: how it samples.
        characters: of the true text of each gap.
        cells: "given" and "open" hold `nats`, -log q of each gap with and without its length; "text", "speed", and on
            worlds "truth", `kl` of each gap.
    """

    name: str
    label: str
    characters: list[int]
    cells: Mapping[str, Cell]

    def nats(self, measure: str) -> Interval | None:
        """-log q of the true texts in nats per character; None if there is none."""
        nats = self.cells[measure].values.get("nats")
        return ratio(nats, self.characters) if nats else None

    def less(self, other: CandidateResult, measure: str) -> Interval | None:
        """Paired difference to another candidate, in nats per character."""
        mine, theirs = (standing.cells[measure].values.get("nats") for standing in (self, other))
        if not mine or not theirs:
            return None
        return ratio([a - b for a, b in zip(mine, theirs, strict=True)], self.characters)

    @property
    def kl(self) -> Interval | None:
        """KL(q || p) to a world's posterior in nats per gap; None if there is none."""
        cell = self.cells.get("truth")
        return mean(cell.values["kl"]) if cell is not None and cell.values else None

    def kl_text(self) -> str:
        """`kl` in words: a bound is marked as one."""
        return "" if self.kl is None else "≤ " * bool(self.cells["truth"].figures.get("bound")) + _told(self.kl)


@dataclass(frozen=True)
class Comparison:
    """Candidates on the same gaps.

    Attributes:
        standings: one for each candidate.
        about: what was measured on.
    """

    standings: tuple[CandidateResult, ...]
    about: Mapping[str, Any]

    def __str__(self) -> str:
        """Two tables in Markdown: likelihood and speed, and text."""
        return "\n\n".join((self._about(), _markdown(*self._likelihood()), _markdown(*self._text())))

    def _about(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.about.items())

    def _likelihood(self) -> tuple[list[str], list[list[str]]]:
        first, fills = self.standings[0], self.about["fills"]
        head = ["", "nats per character, length given", f"less {first.name}", "length unknown"]
        truth = "truth" in first.cells
        head += ["KL(q‖p), nats per gap"] if truth else []
        head += ["NFE", "s for a fill", f"s for each of {fills}", f"MB for {fills}"]
        rows = []
        for s in self.standings:
            speed = s.cells["speed"].figures
            rows.append(
                [
                    s.name,
                    _told(s.nats("given")),
                    "" if s is first else _told(s.less(first, "given")),
                    _told(s.nats("open")),
                    *([s.kl_text()] if truth else []),
                    f"{speed['nfe']:.1f}",
                    f"{speed['seconds_one']:.3f}",
                    f"{speed['seconds_many']:.3f}",
                    f"{speed['megabytes_many']:.0f}" if "megabytes_many" in speed else "",
                ]
            )
        return head, rows

    def _text(self) -> tuple[list[str], list[list[str]]]:
        known = self.standings[0].cells["text"].values
        more = [name for name in known if name not in TEXT and name != "self_bleu"]
        head, rows = ["one fill of unknown length", *TEXT.values(), *more, "distinct-2", "self-BLEU"], []
        for s in self.standings:
            cell = s.cells["text"]
            means = [mean(cell.values[name]) for name in TEXT]
            own = [_told(mean(v)) if len(v := cell.values[name]) > 1 else f"{v[0]:.3f}" for name in more]
            variety = cell.values["self_bleu"]
            cells = [*map(_told, means), *own, f"{cell.figures['distinct_2']:.3f}"]
            rows.append([s.name, *cells, f"{sum(variety) / len(variety):.3f}" if variety else ""])
        return head, rows

    def _examples(self, most: int) -> tuple[list[str], list[list[str]]]:
        cells = [s.cells["text"].texts for s in self.standings]
        truths = cells[0]["truths"][:most]
        rows = [[truth, *(texts["fills"][i] for texts in cells)] for i, truth in enumerate(truths)]
        return ["the author", *(s.name for s in self.standings)], rows

    def _repr_html_(self) -> str:
        """The tables, for notebooks."""
        return f"<p>{escape(self._about())}</p>{_table(*self._likelihood())}{_table(*self._text())}"

    def json(self) -> str:
        """All figures as one JSON object."""
        return json.dumps(asdict(self), indent=1)

    def figure(self) -> Figure:
        """Quality against seconds for a fill, a point for each candidate: lower left is better.

        Quality is -log q of the true text, or on a world the distance to the true posterior.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator

        truth = any(s.kl is not None for s in self.standings)
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for number, s in enumerate(self.standings):
            found = s.kl if truth else s.nats("given")
            if found is None or not math.isfinite(found.value):
                continue
            seconds = s.cells["speed"].figures["seconds_many"]
            bars = [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]
            mark, color = "os^Dv"[number // 10 % 5], f"C{number % 10}"
            axes.errorbar([seconds], [found.value], bars, capsize=2, label=s.name, marker=mark, color=color)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel(f"seconds for each of {self.about['fills']} fills")
        axes.set_ylabel("KL(q‖p), nats per gap" if truth else "-log q of the true text, nats per character")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=8, frameon=False)
        return figure

    def html(self, examples: int = 10) -> str:
        """A page that loads nothing: tables, the figure, and the fills of some gaps side by side."""
        picture = io.BytesIO()
        self.figure().savefig(picture, format="png", dpi=120)
        image = base64.b64encode(picture.getvalue()).decode()
        tables = "".join(_table(*table) for table in (self._likelihood(), self._text(), self._examples(examples)))
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Comparison</title><style>'
            "body{font:15px/1.5 sans-serif;margin:2em;max-width:80em}table{border-collapse:collapse;margin:1.5em 0}"
            "td,th{padding:.3em .8em;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}"
            f"img{{max-width:100%}}</style><body><h1>Comparison</h1><p>{escape(self._about())}</p>{tables}"
            f'<img alt="-log q against seconds for a fill" src="data:image/png;base64,{image}"></body></html>'
        )


def ratio(amounts: Sequence[float], units: Sequence[float]) -> Interval:
    """Total over total, with a percentile bootstrap over the items (seeded, so that it repeats)."""
    if not amounts:
        return Interval(math.nan, math.nan, math.nan)
    a, u = torch.tensor(amounts, dtype=torch.float64), torch.tensor(units, dtype=torch.float64)
    rows = torch.randint(len(a), (RESAMPLES, len(a)), generator=torch.Generator().manual_seed(0))
    low, high = (a[rows].sum(dim=1) / u[rows].sum(dim=1)).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return Interval(float(a.sum() / u.sum()), low, high)


def mean(values: Sequence[float]) -> Interval:
    """The mean with its bootstrap interval."""
    return ratio(values, [1.0] * len(values))


def _told(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.value):
        return ""
    return str(interval) if math.isfinite(interval.value) else f"{interval.value}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(cell)}" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}' for cell in row)}" for row in rows)
    return f"<table><tr>{titles}{body}</table>"
