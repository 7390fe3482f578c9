"""Results of a comparison: records that print as Markdown, JSON, a figure and a page of HTML."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, final

from textdiff.evaluation.statistics import Interval
from textdiff.evaluation.table import Table, caption

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RULE = "| --- "
"""A cell of the line below the head of the tables."""

TEXT = {"exact": "exact", "bleu": "BLEU-4", "gleu": "GLEU-4", "chrf": "chrF", "rouge_l": "ROUGE-L", "empty": "empty"}


@final
@dataclass(frozen=True)
class Cell:
    """One measurement of one candidate.

    Attributes:
        values: by name, one number for each gap; empty if it cannot be measured.
        figures: by name, one number for all gaps.
        texts: by name, one text for each gap.
    """

    values: dict[str, list[float]]
    figures: dict[str, float] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class CandidateResult:
    """All measurements of one candidate.

    Attributes:
        name: of the candidate.
        label: how it samples.
        characters: of the true text of each gap.
        cells: by measurement: "given" and "open" hold `nats`, -log q of each gap with its length given and not;
            "text" and "speed"; on worlds also "truth", which holds `kl` of each gap.
    """

    name: str
    label: str
    characters: list[int]
    cells: Mapping[str, Cell]

    def nats(self, measure: str) -> Interval | None:
        """-log q of the true texts in nats per character; None if there is none."""
        nats = self.cells[measure].values.get("nats")
        return Interval.ratio(nats, self.characters) if nats else None

    def less(self, other: CandidateResult, measure: str) -> Interval | None:
        """Paired difference to another candidate, in nats per character."""
        mine, theirs = (result.cells[measure].values.get("nats") for result in (self, other))
        if not mine or not theirs:
            return None
        return Interval.ratio([a - b for a, b in zip(mine, theirs, strict=True)], self.characters)

    @property
    def kl(self) -> Interval | None:
        """KL(q || p) to a world's posterior in nats per gap; None if there is none."""
        cell = self.cells.get("truth")
        return Interval.mean(cell.values["kl"]) if cell is not None and cell.values else None

    def kl_text(self) -> str:
        """`kl` as a cell of a table; an upper bound is marked as one."""
        return "" if self.kl is None else "≤ " * bool(self.cells["truth"].figures.get("bound")) + self.kl.cell()


@final
@dataclass(frozen=True)
class Comparison:
    """Candidates on the same gaps.

    Attributes:
        results: one for each candidate.
        about: what was measured on.
    """

    results: tuple[CandidateResult, ...]
    about: Mapping[str, Any]

    def __str__(self) -> str:
        """Two tables in Markdown: likelihood and speed, and text."""
        tables = (self._likelihood(), self._text())
        return "\n\n".join((caption(self.about), *(table.markdown(RULE) for table in tables)))

    def _likelihood(self) -> Table:
        """Likelihood, distance to the truth and speed of each candidate."""
        first, fills = self.results[0], self.about["fills"]
        head = ["", "nats per character, length given", f"less {first.name}", "length unknown"]
        truth = "truth" in first.cells
        head += ["KL(q‖p), nats per gap"] if truth else []
        head += ["NFE", "s for a fill", f"s for each of {fills}", f"MB for {fills}"]
        rows = []
        for result in self.results:
            speed = result.cells["speed"].figures
            rows.append(
                [
                    result.name,
                    _cell(result.nats("given")),
                    "" if result is first else _cell(result.less(first, "given")),
                    _cell(result.nats("open")),
                    *([result.kl_text()] if truth else []),
                    f"{speed['nfe']:.1f}",
                    f"{speed['seconds_one']:.3f}",
                    f"{speed['seconds_many']:.3f}",
                    f"{speed['megabytes_many']:.0f}" if "megabytes_many" in speed else "",
                ]
            )
        return Table(head, rows)

    def _text(self) -> Table:
        """Scores of the text of each candidate's fills."""
        known = self.results[0].cells["text"].values
        more = [name for name in known if name not in TEXT and name != "self_bleu"]
        head, rows = ["one fill of unknown length", *TEXT.values(), *more, "distinct-2", "self-BLEU"], []
        for result in self.results:
            cell = result.cells["text"]
            usual = [Interval.mean(cell.values[name]).cell() for name in TEXT]
            own = [_mean_or_single(cell.values[name]) for name in more]
            variety = cell.values["self_bleu"]
            self_bleu = f"{sum(variety) / len(variety):.3f}" if variety else ""
            rows.append([result.name, *usual, *own, f"{cell.figures['distinct_2']:.3f}", self_bleu])
        return Table(head, rows)

    def _examples(self, most: int) -> Table:
        """The fills of the first gaps beside the author's words."""
        cells = [result.cells["text"].texts for result in self.results]
        truths = cells[0]["truths"][:most]
        rows = [[truth, *(texts["fills"][i] for texts in cells)] for i, truth in enumerate(truths)]
        return Table(["the author", *(result.name for result in self.results)], rows)

    def _repr_html_(self) -> str:
        """The tables, for notebooks."""
        return f"<p>{escape(caption(self.about))}</p>{self._likelihood().html()}{self._text().html()}"

    def json(self) -> str:
        """All figures as one JSON object."""
        return json.dumps({"standings": [asdict(result) for result in self.results], "about": self.about}, indent=1)

    def figure(self) -> Figure:
        """Quality against seconds for a fill, a point for each candidate: lower left is better.

        Quality is -log q of the true text, or on a world the distance to the true posterior.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator

        truth = any(result.kl is not None for result in self.results)
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for number, result in enumerate(self.results):
            found = result.kl if truth else result.nats("given")
            if found is None or not math.isfinite(found.value):
                continue
            seconds = result.cells["speed"].figures["seconds_many"]
            bars = [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]
            mark, color = "os^Dv"[number // 10 % 5], f"C{number % 10}"
            axes.errorbar([seconds], [found.value], bars, capsize=2, label=result.name, marker=mark, color=color)
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
        """A self-contained page: tables, the figure, and the fills of some gaps side by side."""
        picture = io.BytesIO()
        self.figure().savefig(picture, format="png", dpi=120)
        image = base64.b64encode(picture.getvalue()).decode()
        tables = "".join(table.html() for table in (self._likelihood(), self._text(), self._examples(examples)))
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Comparison</title><style>'
            "body{font:15px/1.5 sans-serif;margin:2em;max-width:80em}table{border-collapse:collapse;margin:1.5em 0}"
            "td,th{padding:.3em .8em;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}"
            f"img{{max-width:100%}}</style><body><h1>Comparison</h1><p>{escape(caption(self.about))}</p>{tables}"
            f'<img alt="-log q against seconds for a fill" src="data:image/png;base64,{image}"></body></html>'
        )


def _cell(interval: Interval | None) -> str:
    return "" if interval is None else interval.cell()


def _mean_or_single(values: list[float]) -> str:
    """The mean over gaps with its interval, or the one number that stands for all gaps."""
    return Interval.mean(values).cell() if len(values) > 1 else f"{values[0]:.3f}"
