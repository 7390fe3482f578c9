"""Answers for a terminal: known text dim, fills bright, and beneath each what its sampler says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, repeat, zip_longest
from pathlib import Path

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from textdiff.display.answer import Answer
from textdiff.display.text import segments, visible
from textdiff.display.viewer import Denoising

SIDE_BY_SIDE = 72
"""Columns that two answers need to stand side by side."""

QUIET, FILL, NEW, CAVEAT = "dim", "bold green", "bold reverse green", "not dim yellow"


def show(answers: Sequence[Answer], width: int, *, plain: bool = False, steps: bool = False) -> RenderableType:
    """One answer, or several to the same text: side by side, or one after another where the terminal is narrow.

    Args:
        answers: at least one.
        width: of the terminal, in columns.
        plain: there are no styles, so brackets mark the fills.
        steps: show the denoising of each fill step by step.
    """
    if len(answers) == 1:
        return Group(*_fills(answers[0], plain, steps), _foot(answers[0], answers[0].prefix_only))
    if width < SIDE_BY_SIDE:
        return Group(*(Group(_head(answer), *_fills(answer, plain, steps), _foot(answer), "") for answer in answers))
    table = Table.grid(padding=(0, 3), expand=True)
    for _ in answers:
        table.add_column(ratio=1)
    table.add_row(*map(_head, answers))
    for fills in zip_longest(*(_fills(answer, plain, steps) for answer in answers), fillvalue=""):
        table.add_row(*fills)
    table.add_row(*map(_foot, answers))
    return table


def _fills(answer: Answer, plain: bool, steps: bool) -> Iterator[RenderableType]:
    """Each fill in its place, numbered, with its figures."""
    shares = answer.weights if len(answer.fills) > 1 else None
    for number, (denoising, share) in enumerate(zip(answer.denoisings, shares or repeat(None), strict=False), 1):
        text = Text()
        for piece, gap in segments(answer.template, denoising.filled):
            text.append(visible(piece if gap is None or not plain else f"[{piece}]"), QUIET if gap is None else FILL)
        block = Table.grid(padding=(0, 1))
        block.add_column(justify="right", width=len(str(len(answer.denoisings))), style=QUIET)
        block.add_column(overflow="fold")
        block.add_row(str(number), Group(text, *(_steps(denoising) if steps else ()), _figures(denoising, share)))
        yield Padding(block, (0, 0, 1, 0))


def _figures(denoising: Denoising, share: float | None = None) -> RenderableType:
    """Two groups of figures, beneath each other where there is no room for both."""
    work = Text(f"{denoising.tokens} tokens, {denoising.steps} steps, {denoising.nfe} NFE", QUIET)
    if denoising.log_q is None:
        return Columns([Text("no log q", QUIET), work], padding=(0, 2))
    per_token = denoising.log_q / max(1, denoising.tokens)
    score = Text.assemble(f"log q {denoising.log_q:.2f} nats", (f", {per_token:.2f} per token", QUIET))
    weight = [] if share is None else [Text(f"weight {share:.3f}")]
    return Columns([*weight, score, work], padding=(0, 2))


def _steps(denoising: Denoising) -> Iterator[RenderableType]:
    """The gaps after each step; a masked token is as wide as the one that will replace it."""
    final = denoising.frame(denoising.steps)
    for step in range(denoising.steps + 1):
        line = Text()
        for number, (gap, frame) in enumerate(zip(denoising.gaps, denoising.frame(step), strict=True)):
            line.append(" … " if number else "", QUIET)
            for first, token, now, then in zip(count(), gap, frame, final[number], strict=False):
                text = visible((now if now is not None else then) or "").replace("\n", "↵")
                word = text.lstrip(" ")
                line.append(" " * (len(text) - len(word)) if first else "")
                standing = token.at(step)
                style = NEW if standing is not None and standing.step == step else FILL
                line.append(*(("░" * len(word), QUIET) if now is None else (word, style)))
        row = Table.grid(padding=(0, 1))
        row.add_column(justify="right", width=len(str(denoising.steps)), style=QUIET)
        row.add_column(overflow="fold")
        row.add_row(str(step), line)
        yield row


def _head(answer: Answer) -> Text:
    return Text.assemble((_name(answer), "bold"), "\n", (answer.sight, CAVEAT if answer.prefix_only else QUIET), "\n")


def _foot(answer: Answer, sight: bool = False) -> Text:
    fills = answer.fills
    drawn = f"{len(fills)} fill{'s' * (len(fills) > 1)} in {fills.seconds:.2f} s"
    foot = Text(f"{_name(answer)}: {fills.label}; {drawn}; seed {answer.seed}\n{answer.meaning}", QUIET)
    for caveat in (*[answer.sight] * sight, *answer.caveats):
        foot.append(f"\n{caveat}", CAVEAT)
    return foot


def _name(answer: Answer) -> str:
    return visible(Path(answer.checkpoint).name or answer.checkpoint)
