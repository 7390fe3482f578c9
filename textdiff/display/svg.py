"""The denoising of a fill step by step as one SVG image, for pages that run no HTML of ours, such as a README."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from textdiff.display.text import visible
from textdiff.display.viewer import Denoising
from textdiff.text import Gap

CHARACTER, LINE, SIDE, MARGIN = 8.4, 24.0, 92.0, 18.0
"""Width of a monospaced character, height of a line, width of the labels, margin of the card: pixels at 14 px."""


@dataclass(frozen=True)
class _Piece:
    """A run of characters in one style: known text (`step` None), a masked slot, or a revealed token."""

    text: str
    step: int | None = None
    masked: bool = False
    new: bool = False


def denoising_svg(denoising: Denoising, columns: int = 86) -> str:
    """A row for the masked canvas and one for each step; a masked slot is as wide as the token that will fill it.

    Args:
        denoising: the fill, as recorded by `Denoising.of`.
        columns: characters in a line; longer texts wrap at blanks.

    Returns:
        The SVG document; its text is real text, in the reader's monospaced font.
    """
    body, top = "", MARGIN
    for step in range(denoising.steps + 1):
        label = "masked" if step == 0 else f"step {step}"
        body += f'<text class="side" x="{MARGIN:g}" y="{top + 16:g}">{label}</text>'
        for row in _lines(list(_pieces(denoising, step)), columns):
            body += _line(row, top, denoising.steps)
            top += LINE
        top += 8
    about = [f"{denoising.tokens} tokens in {denoising.steps} steps; {denoising.label}"]
    if denoising.log_q is not None:
        about.append(f"log q {denoising.log_q:.2f} nats ({denoising.kind})")
    for line in about:
        body += f'<text class="side" x="{MARGIN + SIDE:g}" y="{top + 16:g}">{escape(line)}</text>'
        top += LINE
    width, height = 2 * MARGIN + SIDE + columns * CHARACTER, top + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img"><title>{escape(about[0])}</title><style>{_STYLE}</style>'
        f'<rect class="card" width="{width:g}" height="{height:g}" rx="10"/>{body}</svg>\n'
    )


def _pieces(denoising: Denoising, step: int) -> Iterator[_Piece]:
    """The text after a step, in reading order."""
    frame, final = denoising.frame(step), denoising.frame(denoising.steps)
    number, parts = 0, denoising.template.parts
    for part, after in zip(parts, (*parts[1:], ""), strict=True):
        if not isinstance(part, Gap):
            yield _Piece(part.removesuffix(" ") if isinstance(after, Gap) else part)
            continue
        for token, now, then in zip(denoising.gaps[number], frame[number], final[number], strict=True):
            came = (token.at(step) or token).step
            text = (then or "") if now is None else now
            word = text.lstrip(" ")
            yield _Piece(text[: len(text) - len(word)])
            yield _Piece(word, came, masked=now is None, new=now is not None and came == step)
        number += 1


def _lines(pieces: list[_Piece], columns: int) -> Iterator[list[tuple[int, _Piece]]]:
    """Lines of pieces with the column where each begins, broken at blanks; a token is never broken."""
    line: list[tuple[int, _Piece]] = []
    column = 0
    for piece in pieces:
        words = [piece.text] if piece.step is not None else visible(piece.text).replace("\n", " ").split(" ")
        for number, word in enumerate(words):
            blank = number > 0
            if column and column + blank + len(word) > columns:
                yield line
                line, column, blank = [], 0, False
            column += blank
            if word:
                line.append((column, _Piece(word, piece.step, piece.masked, piece.new)))
                column += len(word)
    yield line


def _line(line: list[tuple[int, _Piece]], top: float, steps: int) -> str:
    """One line of text with the boxes behind its tokens."""
    svg = ""
    for column, piece in line:
        x, width = MARGIN + SIDE + column * CHARACTER, len(piece.text) * CHARACTER
        if piece.step is not None:
            hue = round(215 + 180 * (piece.step - 1) / max(1, steps - 1)) % 360
            fill = "#8a8f98" if piece.masked else f"hsl({hue},80%,55%)"
            opacity = 0.3 if piece.masked else (0.55 if piece.new else 0.2)
            svg += (
                f'<rect x="{x - 1:g}" y="{top + 1:g}" width="{width + 2:g}" height="20" rx="4" fill="{fill}" '
                f'fill-opacity="{opacity:g}"/>'
            )
        if not piece.masked:
            svg += f'<text x="{x:g}" y="{top + 16:g}" textLength="{width:g}">{escape(visible(piece.text))}</text>'
    return svg


_STYLE = (
    "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#1f2328;white-space:pre}"
    "text.side{font-size:12.5px;fill:#6e7781}.card{fill:#fff;stroke:#d0d7de}"
)
