"""Templates and canvases: what is outside of gaps comes out as it was given, gaps have their lengths."""

from __future__ import annotations

import re
from random import Random

import torch

from tests.helpers.campaign.case import Case, Result, Silent
from tests.helpers.campaign.materials import MARKERS, WRONG, shown, template, text
from tests.helpers.campaign.world import World, answer_in
from textdiff.text import Canvas


def templates(random: Random, world: World) -> Case:
    """Texts with gaps, well formed or not, filled from Python or by the command line."""
    if random.random() < 0.6:
        return well_formed(random, world)
    written, seed = template(random), random.randrange(2**63)
    if random.random() < 0.7:
        return Case(
            f"prior.infill({shown(written)}, 1, steps=1, seed={seed})",
            lambda: _filled(world.prior.infill(written, 1, steps=1, seed=seed), 1),
        )
    written = written.encode(errors="surrogateescape" if written.isascii() else "ignore").decode(errors="ignore")
    return infill(world, written.replace("\0", ""), "--steps", "1", "--seed", str(seed))


def well_formed(random: Random, world: World) -> Case:
    """A template whose parts are known; the answer has to be these parts with fills between them."""
    texts = [text(random, 2) or "x" for _ in range(random.randint(2, 4))]
    markers = random.choices(MARKERS, k=len(texts) - 1)
    written = _escaped(texts[0], bool(markers))
    for i, (marker, known) in enumerate(zip(markers, texts[1:], strict=True)):
        written += marker + _escaped(known, i + 1 < len(markers))
    n, seed = random.randint(1, 2), random.randrange(2**63)

    def run() -> None:
        samples = world.prior.infill(written, n, steps=random.randint(1, 3), seed=seed)
        _filled(samples, n)
        for sample in samples.samples:
            if not _pattern(texts, sample.fills).fullmatch(sample.text):
                raise Silent(f"the text around the gaps is not what was given: {shown(sample.text)}")

    return Case(f"prior.infill({shown(written)}, {n}, seed={seed})", run)


def _escaped(known: str, before_a_marker: bool) -> str:
    written = re.sub(r"(\\*)\[gap\b", r"\1\1\\[gap", known)
    return re.sub(r"(\\+)\Z", r"\1\1", written) if before_a_marker else written


def _pattern(texts: list[str], fills: tuple[str, ...]) -> re.Pattern[str]:
    """The whole text; a blank before a gap goes with its fill, and an empty one may be without it."""
    whole = ""
    for known, fill in zip(texts, fills, strict=False):
        optional = " ?" if known.endswith(" ") and not fill else ""
        whole += re.escape(known.removesuffix(" ") if optional else known) + optional + re.escape(fill)
    return re.compile(whole + re.escape(texts[-1]))


def _filled(samples: object, n: int) -> None:
    if len(samples.texts) != n:  # type: ignore[attr-defined]
        raise Silent(f"{n} fills were asked for, {len(samples.texts)} came")  # type: ignore[attr-defined]
    log_q = samples.log_q  # type: ignore[attr-defined]
    if log_q is not None and not (torch.isfinite(log_q).all() and (log_q <= 1e-9).all()):
        raise Silent(f"log q is {log_q.tolist()}")


def infill(world: World, written: str, *options: str) -> Case:
    """`textdiff infill TEXT --json`, whose answer is read."""
    from textdiff.cli import main

    arguments = ["infill", "--json", "--checkpoint", str(world.checkpoint), *options, "--", written]

    def check(result: Result) -> str | None:
        if result.status:
            return None if not result.out else "a refusal with an answer"
        answer = answer_in(result.out)
        return None if answer["text"] == written and len(answer["fills"]) == len(answer["texts"]) else "not that text"

    return Case(f"textdiff {shown(arguments)}", lambda: main(arguments), check=check)


def canvases(random: Random, world: World) -> Case:
    """Canvases of token ids: good ones keep what is observed, others are refused."""
    vocabulary = world.prior.network.config
    length = random.choice((1, 2, 5, 12, 40, 511, 512, 513, 2000))
    tokens = torch.randint(0, vocabulary.vocab_size, (random.choice((1, 1, 1, 2, 0)), length))
    mask = vocabulary.mask_token_id
    for _ in range(random.randint(0, 3)):
        start = random.randrange(length)
        tokens[:, start : start + random.randint(1, 3)] = mask
    way, wrong = random.randrange(5), random.choice(WRONG)

    def given() -> object:
        if way == 0:
            tokens[:, random.randrange(length)] = random.choice((-1, vocabulary.vocab_size, 2**40, -(2**63)))
        elif way == 1:
            return Canvas.of(
                random.choice((tokens.flatten(), tokens[None], tokens.float(), tokens.bool(), wrong)), mask
            )
        elif way == 2:
            return random.choice((wrong, tokens, tokens.tolist()))
        canvas = Canvas.of(tokens, mask)
        if way == 3:
            parts = dict(vars(canvas))
            name = random.choice(sorted(parts))
            parts[name] = random.choice((wrong, canvas.minimum + 1, canvas.tokens[:, :1], ~canvas.observed))
            return Canvas(**parts)
        return canvas

    def run() -> None:
        samples = world.prior.given(given()).sample(2, generator=0)
        if way == 4 and not torch.equal(samples.tokens[0][tokens[0] != mask], tokens[0][tokens[0] != mask]):
            raise Silent("observed tokens were changed")
        _filled(samples, 2)

    what = ("an id out of range", "Canvas.of", shown(wrong), "a part of it changed", "none")[way]
    return Case(f"a canvas of {tuple(tokens.shape)}, fault: {what}", run)
