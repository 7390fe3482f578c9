"""The denoising of a fill step by step, and fills in their places, as HTML that needs nothing but a browser."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from typing import Any

import torch
from torch import Tensor

from textdiff.display.text import readable, segments, visible
from textdiff.evidence import Observed
from textdiff.posterior import Prior, WeightedSamples
from textdiff.samplers import LogProbKind, Tempering
from textdiff.text import Filled, Gap, Template
from textdiff.text.vocabulary import token_bytes

CONTEXT = 72
"""Characters of known text on either side of a gap in every row but the last, which shows all of it."""


@dataclass(frozen=True)
class Token:
    """A token of a fill.

    Attributes:
        content: its UTF-8 bytes; a character may be spread over several tokens.
        step: the step that revealed it, from 1.
        until: the step that masked it again; None: it stayed.
        earlier: tokens that stood in its slot before and were masked again.
    """

    content: bytes
    step: int
    until: int | None = None
    earlier: tuple[Token, ...] = ()

    def at(self, step: int) -> Token | None:
        """What stands in its slot after so many steps; None: the mask."""
        standing = (token for token in (*self.earlier, self) if token.step <= step)
        return next((token for token in standing if token.until is None or step < token.until), None)


@dataclass(frozen=True)
class Denoising:
    """The denoising of one fill, step by step; a notebook shows it as coloured HTML.

    Attributes:
        template: the known text and its gaps.
        filled: the result.
        gaps: the tokens of each gap, in reading order.
        log_q: log-probability of the fill in nats, in the sense of `kind`; None for kind "none".
        kind: what `log_q` is.
        nfe: forward passes.
        label: how the fill was drawn, in words.
    """

    template: Template
    filled: Filled
    gaps: tuple[tuple[Token, ...], ...]
    log_q: float | None
    kind: LogProbKind
    nfe: int
    label: str

    @classmethod
    def of(cls, prior: Prior, text: str, **options: Any) -> Denoising:
        """Fill the gaps of a text once, and watch.

        Args:
            prior: what fills them.
            text: a template, see `Prior.infill`.
            options: `seed`, `steps`, `policy`, `temperature`, `top_p`, `top_k` of `Prior.infill`.
        """
        recorder, template = Recorder(), Template.parse(text)
        (denoising,) = recorder.denoisings(
            prior, template, prior.infill(Observed(template), 1, watch=recorder, **options)
        )
        sharpened = {name: value for name, value in options.items() if name in ("temperature", "top_p", "top_k")}
        if (tempering := Tempering(**sharpened)).neutral:
            return denoising
        return replace(denoising, label=f"{denoising.label}, {tempering}: not a posterior sample")

    @property
    def tokens(self) -> int:
        """How many tokens were drawn, null not counted."""
        return sum(map(len, self.gaps))

    @property
    def steps(self) -> int:
        """How many steps revealed tokens."""
        return max((token.step for gap in self.gaps for token in gap), default=0)

    def frame(self, step: int) -> tuple[tuple[str | None, ...], ...]:
        """The text of each token of each gap after `step` steps, None where it is still masked."""
        standing = ((token.at(step) for token in gap) for gap in self.gaps)
        return tuple(readable(token.content if token else None for token in gap) for gap in standing)

    def _repr_html_(self) -> str:
        return f"<style>{_STYLE}</style>{_rows(self)}"


class Recorder:
    """A `watch` for `Prior.infill` that notes in which of its calls each slot was revealed, and masked again.

    Attributes:
        when: number of the call, `[n, length]`, -1 where none revealed the slot.
        gone: of what was masked again the row and slot, the id, the call that revealed it and the one that masked it.
    """

    def __init__(self) -> None:
        self.when = self._last = torch.empty(0, 0)
        self.gone: list[tuple[int, int, int, int, int]] = []
        self._calls = 0

    def __call__(self, tokens: Tensor, revealed: Tensor) -> None:
        if not self._calls:
            self.when, self._last = torch.full_like(tokens, -1), tokens
        hidden = (self.when >= 0) & ~revealed & (tokens != self._last)
        for row, slot in hidden.nonzero().tolist():
            was = int(self._last[row, slot]), int(self.when[row, slot])
            self.gone.append((row, slot, *was, self._calls))
        self.when[revealed] = self._calls
        self._last = tokens
        self._calls += 1

    def denoisings(self, prior: Prior, template: Template, fills: WeightedSamples) -> tuple[Denoising, ...]:
        """The denoising of each of the `fills` of a template, or of some of them; they were drawn with `watch=self`."""
        contents = token_bytes(prior.tokenizer)
        gap = template.encode(prior.tokenizer).gap[0].tolist()
        scores = [None] * len(fills) if fills.log_q is None else fills.log_q.tolist()
        watched = list(range(len(self.when)))
        if len(fills) != len(watched):  # chosen among the draws: the first with these tokens
            last = self._last.to(fills.tokens.device)
            watched = [int((last == tokens).all(dim=1).nonzero()[0]) for tokens in fills.tokens]
        rows = zip(watched, fills, scores, fills.nfe.tolist(), fills.tokens.tolist(), strict=True)

        def gaps(row: int, ids: list[int], calls: list[int]) -> tuple[tuple[Token, ...], ...]:
            drawn = [slot for slot in range(len(gap)) if gap[slot] >= 0 and ids[slot] != prior.vocabulary.null]
            gone = [rest for where, *rest in self.gone if where == row]
            used = {calls[slot] for slot in drawn} | {call for _, _, call, _ in gone}
            number = {call: step for step, call in enumerate(sorted(used), 1)}
            earlier: dict[int, tuple[Token, ...]] = {}
            for slot, token, call, until in gone:
                was = Token(contents[token] or b"", number[call], number[until])
                earlier[slot] = (*earlier.get(slot, ()), was)

            def last(slot: int) -> Token:
                return Token(contents[ids[slot]] or b"", number[calls[slot]], None, earlier.get(slot, ()))

            return tuple(tuple(last(slot) for slot in drawn if gap[slot] == i) for i in range(len(template.gaps)))

        return tuple(
            Denoising(template, filled, gaps(row, ids, self.when[row].tolist()), score, fills.kind, nfe, fills.label)
            for row, filled, score, nfe, ids in rows
        )


def denoising_html(prior: Prior, text: str, seed: int | None = None, **options: Any) -> str:
    """Fill the gaps of a text once and show the denoising step by step: a page of HTML that loads nothing.

    A masked slot is drawn as wide as the token that will replace it in the end, so that nothing moves from one step to
    the next; only tokens that are masked again have widths of their own.

    Args:
        prior: what fills the gaps.
        text: a template, see `Prior.infill`.
        seed: of the random numbers; drawn from the system if None.
        options: `steps`, `policy`, `temperature`, `top_p`, `top_k` of `Prior.infill`.
    """
    rows = _rows(Denoising.of(prior, text, seed=seed, **options))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Denoising</title><style>{_PAGE}{_STYLE}</style><body>{rows}</body></html>"
    )


def fills_html(fills: WeightedSamples, text: str) -> str:
    """Fills in their places, as a fragment of HTML.

    Args:
        fills: of the gaps of `text`.
        text: the template.
    """
    template = Template.parse(text)
    scores, meaning = [""] * len(fills), "no log q: not posterior samples"
    if fills.log_q is not None:
        scores, meaning = [f"{score:.2f}" for score in fills.log_q.tolist()], f"left: log q in nats ({fills.kind})"
    rows = "".join(
        _row(score, "".join(_segment(piece, gap, len(template.gaps)) for piece, gap in segments(template, filled)))
        for filled, score in zip(fills, scores, strict=True)
    )
    about = f"{escape(fills.label)} · {meaning} · {fills.seconds:.2f} s"
    return f"<style>{_STYLE}</style>" + _figure(f"{len(fills)} fills", about, rows)


def _rows(denoising: Denoising) -> str:
    """A row for the canvas, one for its drawn length where that was unknown, and one for each step."""
    gaps, steps = denoising.template.gaps, denoising.steps
    unused = [gap.maximum - len(tokens) for gap, tokens in zip(gaps, denoising.gaps, strict=True)]
    rows = [_row("canvas", _canvas(denoising, 0, unused))]
    if any(gap.minimum < gap.maximum for gap in gaps):
        rows.append(_row("length", _canvas(denoising, 0)))
    rows += [_row(str(step), _canvas(denoising, step)) for step in range(1, steps + 1)]
    score = "no log q: not a posterior sample"
    if denoising.log_q is not None:
        score = f"log q {denoising.log_q:.2f} nats ({denoising.kind})"
    about = f"{escape(denoising.label)} · {score} · {denoising.nfe} forward passes"
    colours = ",".join(f"hsl({_hue(step, 8)} 75% 55%/.6)" for step in range(1, 9))
    scale = f'<span>step 1 <span class="scale" style="--c:{colours}"></span> {steps}</span>' if steps > 1 else ""
    return _figure(f"{denoising.tokens} tokens in {steps} steps", about, "".join(rows), scale)


def _canvas(denoising: Denoising, step: int, unused: list[int] | None = None) -> str:
    """The text after a step; `unused` slots are still there at the end of each gap."""
    parts, last, html, number = denoising.template.parts, denoising.steps, "", 0
    frame, final = denoising.frame(step), denoising.frame(last)
    for before, part, after in zip(("", *parts), parts, (*parts[1:], ""), strict=False):
        if isinstance(part, Gap):
            for token, now, then in zip(denoising.gaps[number], frame[number], final[number], strict=True):
                came = (token.at(step) or token).step
                html += _token(now, then or "", step - came, _hue(came, last))
            html += '<i class="unused">░</i>' * (unused[number] if unused else 0)
            number += 1
        else:
            known = part.removesuffix(" ") if isinstance(after, Gap) else part  # the blank is the first token's
            html += _shown(known if step == last else _elided(known, isinstance(before, Gap), isinstance(after, Gap)))
    return html


def _token(now: str | None, then: str, age: int, hue: int) -> str:
    """A token that reads `now` (None: masked) and in the end `then`, revealed `age` steps ago."""
    text = then if now is None else now
    word = text.lstrip(" ") or text
    blank = text[: len(text) - len(word)]
    if now is None:
        return f'{blank}<i data-text="{_shown(word)}">░</i>'
    return f'{blank}<mark{"" if age else " class=new"} style="--hue:{hue}">{_shown(word)}</mark>' if word else ""


def _segment(text: str, gap: int | None, gaps: int) -> str:
    return _shown(text) if gap is None else f'<mark style="--hue:{_hue(gap + 1, gaps)}">{_shown(text)}</mark>'


def _elided(text: str, after_gap: bool, before_gap: bool) -> str:
    """Known text near the gaps that it touches."""
    head, tail = CONTEXT * after_gap, CONTEXT * before_gap
    if len(text) <= head + tail:
        return text
    left = text[:head].rpartition(" ")[0] + " " if head else ""
    right = " " + text[len(text) - tail :].partition(" ")[2] if tail else ""
    return f"{left}…{right}"


def _shown(text: str) -> str:
    return escape(visible(text).replace("\n", "↵\n"))


def _row(side: str, text: str) -> str:
    return f'<div class="row"><span class="side">{side}</span><span class="text">{text}</span></div>'


def _figure(title: str, about: str, rows: str, legend: str = "") -> str:
    head = f'<div class="head"><b>{title}</b><span>{about}</span>{legend}</div>'
    return f'<div class="textdiff">{head}{rows}</div>'


def _hue(step: int, steps: int) -> int:
    """Colour of a step, in degrees: from blue over violet and red to orange."""
    return round(215 + 180 * (step - 1) / max(1, steps - 1)) % 360


_PAGE = ":root{color-scheme:light dark}body{margin:2.5rem auto;padding:0 1.5rem;max-width:62rem}"
_STYLE = """
.textdiff{font:15px/1.75 ui-sans-serif,system-ui,sans-serif;max-width:62rem;margin:.3em 0 1em}
.textdiff .head{display:flex;flex-wrap:wrap;align-items:baseline;gap:0 1.2em;padding-bottom:.5em;margin-bottom:.5em;
border-bottom:1px solid rgb(128 128 128/.3)}
.textdiff .head span{font-size:13px;opacity:.85}
.textdiff .scale{display:inline-block;width:7em;height:.7em;border-radius:4px;
background:linear-gradient(90deg,var(--c))}
.textdiff .row{display:flex;gap:1.1em;padding:.2em 0}
.textdiff .side{flex:0 0 4em;text-align:right;font-size:12.5px;line-height:2.1;opacity:.6;
font-variant-numeric:tabular-nums}
.textdiff .text{flex:1;white-space:pre-wrap;overflow-wrap:anywhere}
.textdiff mark,.textdiff i::before{padding:.12em 1px;margin:0 .5px;border-radius:4px;
-webkit-box-decoration-break:clone;box-decoration-break:clone}
.textdiff i{font-style:normal;font-size:0}
.textdiff i::before{content:attr(data-text);font-size:15px;color:transparent;background:rgb(128 128 128/.22)}
.textdiff i.unused::before{content:"00";background:none;box-shadow:inset 0 0 0 1px rgb(128 128 128/.35);margin:0 3px}
.textdiff mark{color:inherit;background:hsl(var(--hue) 80% 55%/.2)}
.textdiff mark.new{background:hsl(var(--hue) 80% 55%/.5);box-shadow:0 0 0 1.5px hsl(var(--hue) 80% 55%)}
"""
