"""Gaps in the texts of a world, where the exact posterior is known."""

from __future__ import annotations

import torch

from textdiff.data import HeldOutGap
from textdiff.errors import UserError
from textdiff.posterior import seeded
from textdiff.text import Canvas
from textdiff.worlds import ProbabilisticAutomaton
from textdiff.worlds.catalog import DEFAULT_LENGTH


def world_items(
    world: ProbabilisticAutomaton,
    count: int,
    gap: int = 12,
    length: int = DEFAULT_LENGTH,
    *,
    seed: int = 0,
    longest: int = 512,
    places: int = 1,
    evidence_world: ProbabilisticAutomaton | None = None,
) -> list[HeldOutGap]:
    """Cut gaps of known length out of texts of a world, at uniform places; what was cut out is an exact posterior draw.

    Args:
        world: generates the texts.
        count: number of texts.
        gap: tokens in a gap.
        length: tokens in a text, if the world has no distribution of lengths; otherwise texts that are too short are
            passed over.
        seed: of texts and places.
        longest: tokens that are kept of a text.
        places: gaps in a text, at least one token apart.
        evidence_world: another world that generates the texts around the gaps; the gaps are then filled from the
            posterior of `world`, for example the same world under a reward (`ProbabilisticAutomaton.tilted`).

    Raises:
        UserError: the world's texts are too short for such gaps.
    """
    if evidence_world is not None:
        items = world_items(evidence_world, count, gap, length, seed=seed, longest=longest, places=places)
        generator = seeded(seed + 1)
        return [HeldOutGap(canvas, world.sample(canvas, generator).tokens) for canvas, _ in items]
    generator, v = seeded(seed), world.vocabulary
    assert v.bos is not None and v.eos is not None
    found: list[HeldOutGap] = []
    for _ in range(100):
        if world.any_length:
            row = torch.tensor([[v.bos, *[v.mask] * length, v.eos]])
            texts = world.sample(Canvas.of(row, v.mask).repeat(count), generator).tokens
        else:
            texts = world.simulate(count, generator, longest)
        for text in texts:
            text = text[text != torch.tensor(v.pad)] if v.pad is not None else text
            free = len(text) - 2 - places * (gap + 1) + 1
            if free < 0 or len(found) == count:
                continue
            before = torch.randint(free + 1, (places,), generator=generator).sort().values
            starts = (1 + before + torch.arange(places) * (gap + 1)).tolist()
            found.append(HeldOutGap.cut(text[None], starts, gap, v.mask))
        if len(found) == count:
            return found
        if not found:
            break
    raise UserError(f"the texts of {world.name} are too short for gaps of {gap} tokens: ask for shorter gaps")


def world_lengths(
    world: ProbabilisticAutomaton, count: int, most: int, beside: int = 24, *, seed: int = 0
) -> list[HeldOutGap]:
    """Texts of a world without a distribution of lengths, with one gap of 1 to `most` tokens, uniformly.

    The text before the gap and the text after it have at most `beside` tokens, whose number is independent of the
    gap's length. The length's prior is therefore uniform, and `ProbabilisticAutomaton.length_log_probs` is its
    posterior.

    Raises:
        UserError: the world has a distribution of lengths.
    """
    if not world.any_length:
        raise UserError(f"the world {world.name} has a distribution of lengths: choose one that has none, such as hmm")
    generator, v, found = seeded(seed), world.vocabulary, []
    for _ in range(count):
        before, after = torch.randint(1, beside + 1, (2,), generator=generator).tolist()
        gap = int(torch.randint(1, most + 1, (1,), generator=generator))
        row = torch.tensor([[v.bos, *[v.mask] * (before + gap + after), v.eos]])
        text = world.sample(Canvas.of(row, v.mask), generator).tokens
        found.append(HeldOutGap.cut(text, [1 + before], gap, v.mask))
    return found
