"""Fill-in-the-middle in training: the rearrangement loses nothing, and the loss is the log-probability of the prior."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.helpers.networks import BOS, EOS, MASK, network, tokens, vocabulary
from textdiff.data import FillInMiddle, LeftToRight, SpanGaps
from textdiff.data.corruption.fill_in_middle import MARKS
from textdiff.errors import UserError
from textdiff.priors import FillInMiddlePrior
from textdiff.text import Canvas
from textdiff.text.fill_in_middle import GAP_POSITIONS

VOCABULARY = vocabulary()
GAPS = SpanGaps(most_gaps=4, longest=8, share_words=0.3)


def text(length: int, seed: int) -> np.ndarray:
    return np.array([BOS, *tokens(length, seed=seed).tolist(), EOS])


def restored(ids: list[int]) -> tuple[list[int], int]:
    """The original of a rearranged text, by its marks alone, and how many gaps it has."""
    if ids[0] == MASK:  # suffix, prefix, middle
        begin = ids.index(BOS)
        opens = ids.index(MASK, begin)
        assert ids[-1] == EOS
        return ids[begin:opens] + ids[opens + 1 : -1] + ids[1:begin], 1
    end = ids.index(EOS)
    middles, part = [], []
    for token in ids[end + 1 :]:
        if token == MASK:
            part = []
        elif token == EOS:
            middles.append(part)
        else:
            part.append(token)
    found, rest = [], list(middles)
    for token in ids[: end + 1]:
        found += rest.pop(0) if token == MASK else [token]
    assert not rest
    return found, len(middles)


def test_nothing_is_lost_and_marks_are_not_scored() -> None:
    rng, corruption = np.random.default_rng(0), FillInMiddle(gaps=GAPS, evidence=0.25)
    kinds = {"plain": 0, "suffix first": 0, "one": 0, "several": 0}
    for seed in range(600):
        original = text(int(rng.integers(1, 40)), seed)
        example = corruption(original, VOCABULARY, 9, rng)
        ids = example.tokens.tolist()
        found, gaps = restored(ids)
        assert found == original.tolist()
        assert np.array_equal(example.canvas, example.tokens) and not example.nullable.any()
        assert len(ids) == len(original) + MARKS * gaps and gaps <= 3
        given = np.isin(example.tokens, (MASK, BOS)) | (np.arange(len(ids)) == 0)
        assert np.array_equal(example.weights == 0, given) and np.array_equal(example.observed, given)
        if gaps:
            opens = len(ids) - sum(1 for _ in ids[::-1][: ids[::-1].index(MASK)])  # the last middle counts in full
            assert (example.weights[opens:] == 1).all() and set(example.weights[: opens - 1]) <= {0, 0.25, 1}
        kinds["plain" if not gaps else "suffix first" if ids[0] == MASK else "one" if gaps == 1 else "several"] += 1
    assert kinds["plain"] == pytest.approx(60, abs=25)
    assert min(kinds.values()) > 30


def test_every_token_keeps_its_place() -> None:
    """Positions follow the text, with `GAP_POSITIONS` for each gap; a middle opens at the token before it."""
    rng, corruption = np.random.default_rng(3), FillInMiddle(rate=1, gaps=GAPS)
    for seed in range(200):
        original = text(int(rng.integers(6, 40)), seed)
        example = corruption(original, VOCABULARY, 9, rng)
        ids, positions = example.tokens.tolist(), example.positions.tolist()
        begin = ids.index(BOS)
        edge = ids.index(MASK, begin) if begin else ids.index(EOS) + 1  # behind the evidence
        middles = [at for at in range(edge, len(ids)) if ids[at] == MASK]
        lengths = [ids.index(EOS, at) - at - 1 for at in middles]
        where, gap, at = {}, 0, 0
        for token, place in sorted(zip(ids[:edge], positions[:edge], strict=True), key=lambda pair: pair[1]):
            if token == MASK:
                assert positions[middles[gap]] == place - 1
                run = positions[middles[gap] + 1 : middles[gap] + lengths[gap] + 2]
                assert run == list(range(place, place + lengths[gap] + 1))
                at, gap = at + lengths[gap], gap + 1
            else:
                where[at] = place
                at += 1
        drift = [where[i] - i for i in sorted(where)]
        assert drift[0] == 0 and at == len(original)
        assert {later - earlier for earlier, later in pairwise(drift) if later != earlier} <= {
            GAP_POSITIONS - length for length in lengths
        }


@pytest.mark.parametrize("layout", ["psm", "spm"])
def test_the_loss_is_the_log_probability_of_the_prior(layout: str) -> None:
    net, rng = network(causal=True, fill_in_middle=True), np.random.default_rng(1)
    corruption = FillInMiddle(rate=1, spm=float(layout == "spm"), single=1, gaps=GAPS, evidence=0)
    for seed in range(5):
        original = text(14, seed)
        example = corruption(original, VOCABULARY, 3, rng)
        ids = torch.from_numpy(example.tokens)[None]
        logits = net.logits(ids, positions=torch.from_numpy(example.positions)[None])[:, :-1]
        logits = logits.masked_fill(net.forbidden_mask(ids.device), -torch.inf)
        scored = torch.from_numpy(example.weights[1:] > 0)
        learned = F.cross_entropy(logits[0][scored], ids[0, 1:][scored], reduction="sum")

        opens = len(ids[0]) - 1 - ids[0].tolist()[::-1].index(MASK)
        middle, start = ids[0, opens + 1 : -1], _place(ids[0].tolist())
        room = torch.tensor([*original[:start], *[MASK] * (len(middle) + 2), *original[start + len(middle) :]])[None]
        canvas = Canvas.of(room, MASK)
        canvas = Canvas(canvas.tokens, canvas.observed, canvas.gap, torch.tensor([[0]]), canvas.word_start)
        full = room.clone()
        full[0, start : start + len(middle)] = middle
        full[0, start + len(middle) : start + len(middle) + 2] = VOCABULARY.null
        prior = FillInMiddlePrior(net, None, VOCABULARY, layout)
        torch.testing.assert_close(-prior.score(canvas, full).log_q[0], learned)


def _place(ids: list[int]) -> int:
    """Where the one gap of a rearranged text is."""
    begin = ids.index(BOS)
    return ids.index(MASK, begin) - begin


def test_without_room_or_rate_a_text_stays_as_it_is() -> None:
    rng, original = np.random.default_rng(0), text(12, 0)
    plain = LeftToRight()(original, VOCABULARY, 0, rng)
    for corruption, room in ((FillInMiddle(rate=1), 2), (FillInMiddle(rate=0), 99)):
        example = corruption(original, VOCABULARY, room, rng)
        assert np.array_equal(example.tokens, plain.tokens) and np.array_equal(example.weights, plain.weights)
    bare = np.array([BOS, EOS])
    assert np.array_equal(FillInMiddle(rate=1)(bare, VOCABULARY, 9, rng).tokens, bare)


def test_shares_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match=r"spm is 1\.5, expected a share between 0 and 1"):
        FillInMiddle(spm=1.5)
