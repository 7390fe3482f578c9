"""Corruption: which tokens it may change, and that its weights estimate what they are for."""

from collections import defaultdict
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from textdiff.data import (
    Corruption,
    Example,
    FillInMiddle,
    LeftToRight,
    LineGaps,
    Mixture,
    PositionJumps,
    RandomMasks,
    SentenceGaps,
    SpanGaps,
)
from textdiff.data.corruption.sentence_gaps import sentences
from textdiff.denoisers import nelbo_exact_k
from textdiff.errors import UserError
from textdiff.samplers import Strided, path_log_prob
from textdiff.testing.tables import TableDenoiser
from textdiff.text import Canvas, Vocabulary, decode, encode
from textdiff.worlds import world

SIGMAS = 4.5


def estimates(examples: list[Example], denoiser: TableDenoiser) -> np.ndarray:
    """Sum of weight x cross-entropy of each example, nats."""
    stack = {
        name: torch.from_numpy(np.stack([getattr(example, name) for example in examples]))
        for name in ("tokens", "canvas", "observed", "weights")
    }
    log_probs = denoiser.log_probs(stack["canvas"], stack["observed"]).gather(-1, stack["tokens"][..., None])[..., 0]
    return (-stack["weights"] * log_probs.nan_to_num(neginf=0)).sum(1).numpy()


def agrees(sample: np.ndarray, exact: float) -> bool:
    """Whether the mean of a sample is `exact`, within its noise."""
    return abs(sample.mean() - exact) < SIGMAS * sample.std() / len(sample) ** 0.5 + 1e-6


def exact_nelbo(tokens: torch.Tensor, denoiser: TableDenoiser) -> float:
    """The NELBO by enumeration of all masks."""
    n, total = len(tokens), 0.0
    for k in range(1, n + 1):
        masks = list(combinations(range(n), k))
        for mask in masks:
            hidden = torch.zeros(n, dtype=torch.bool)
            hidden[list(mask)] = True
            canvas = tokens.masked_fill(hidden, denoiser.mask_id)[None]
            log_probs = denoiser.log_probs(canvas, ~hidden[None])[0].gather(-1, tokens[:, None])[:, 0]
            total -= float(log_probs[hidden].sum()) / k / len(masks)
    return total


def test_random_masks_estimate_the_nelbo() -> None:
    denoiser, vocabulary, rng = TableDenoiser(symbols=3, length=4, seed=1), Vocabulary.toy(3), np.random.default_rng(0)
    tokens = np.array([2, 0, 1, 1])
    sample = estimates([RandomMasks()(tokens, vocabulary, 0, rng) for _ in range(2500)], denoiser)
    exact = exact_nelbo(torch.from_numpy(tokens), denoiser)
    assert agrees(sample, exact)
    assert not agrees(sample * 1.1, exact)
    rows = torch.from_numpy(tokens)[None].repeat(400, 1)
    reference = nelbo_exact_k(
        denoiser, rows, torch.zeros_like(rows, dtype=torch.bool), denoiser.mask_id, torch.Generator().manual_seed(0)
    )
    assert agrees(reference.numpy(), exact)


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_strided_weights_estimate_the_log_probability_of_a_gap(steps: int) -> None:
    denoiser, vocabulary = TableDenoiser(symbols=2, length=5, seed=steps), Vocabulary.toy(2)
    corruption = SpanGaps(
        most_gaps=1,
        longest=5,
        share_masked=1.0,
        share_null=0.0,
        share_random=0.0,
        share_words=0.0,
        steps=(steps,),
        lookahead=0.0,
    )
    rng, tokens = np.random.default_rng(0), np.array([1, 0, 0, 1, 0])
    examples = [corruption(tokens, vocabulary, 0, rng) for _ in range(2500)]
    by_gap: dict[tuple[bool, ...], list[float]] = defaultdict(list)
    for example, estimate in zip(examples, estimates(examples, denoiser), strict=True):
        by_gap[tuple(example.observed.tolist())].append(estimate)
    assert len(by_gap) > 8
    for observed, sample in by_gap.items():
        truth = torch.from_numpy(tokens)[None]
        canvas = Canvas.of(truth.where(torch.tensor([observed]), vocabulary.mask), vocabulary.mask)
        log_q = path_log_prob(denoiser, canvas, vocabulary, Strided(steps), truth).log_q
        assert log_q is not None
        assert agrees(np.array(sample), -float(log_q)), observed


@pytest.mark.parametrize("lookahead", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("share_random", [0.0, 1.0])
def test_weights_count_the_tokens_of_the_gaps(vocabulary: Vocabulary, lookahead: float, share_random: float) -> None:
    corruption = SpanGaps(share_null=0.0, share_random=share_random, lookahead=lookahead, steps=(4,))
    rng = np.random.default_rng(0)
    excess = []
    for _ in range(800):
        example = corruption(text(vocabulary, rng, 60), vocabulary, 0, rng)
        excess.append(float(example.weights.sum()) - (~example.observed).sum())
    assert agrees(np.array(excess), 0.0)


KINDS: list[Corruption] = [
    RandomMasks(),
    SpanGaps(),
    SpanGaps(most_gaps=8, longest=3, share_masked=1.0, share_null=1.0, share_random=0.0, lookahead=0.0),
    SpanGaps(most_gaps=8, longest=12, share_masked=0.0, share_null=1.0, share_random=1.0, share_words=0.0),
    Mixture(SpanGaps(share_null=0.5), share=0.5),
]


def text(
    vocabulary: Vocabulary, rng: np.random.Generator, length: int, ends: tuple[bool, bool] = (True, True)
) -> np.ndarray:
    """Random content between bos and eos, or without them as in the middle of a long document."""
    content = np.flatnonzero(~vocabulary.forbidden.numpy())
    content = content[content != vocabulary.null]
    first, last = ([vocabulary.bos] * ends[0], [vocabulary.eos] * ends[1])
    return np.concatenate((first, rng.choice(content, length), last)).astype(np.int64)


def runs(slots: np.ndarray) -> list[slice]:
    """The runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], slots.astype(int), [0]))))
    return [slice(start, stop) for start, stop in edges.reshape(-1, 2)]


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_touches_only_what_it_may(kind: Corruption, vocabulary: Vocabulary) -> None:
    rng = np.random.default_rng(0)
    seen_null = seen_nullable = False
    for trial in range(250):
        ends = (bool(trial & 1), bool(trial & 2))
        tokens, room = text(vocabulary, rng, int(rng.integers(1, 50)), ends), int(rng.integers(0, 12))
        example = kind(tokens, vocabulary, room, rng)
        null, masked, scored = example.tokens == vocabulary.null, example.canvas == vocabulary.mask, example.weights > 0
        assert (example.tokens[~null] == tokens).all(), "the text is all there, and in order"
        assert null.sum() <= room
        assert (example.canvas == np.where(masked, vocabulary.mask, example.tokens)).all()
        assert not (masked & example.observed).any(), "evidence is never masked"
        assert (scored <= masked).all(), "nothing visible is scored"
        structural = np.isin(example.tokens, (vocabulary.bos, vocabulary.eos, vocabulary.pad))
        assert example.observed[structural].all() and not scored[structural].any()
        assert not null[example.observed].any()
        for gap in runs(~example.observed) if not isinstance(kind, RandomMasks) else []:
            assert (np.diff(null[gap].astype(int)) >= 0).all(), "null only at the end of a gap"
            if example.nullable[gap].any():
                assert example.nullable[gap].all() and masked[gap].all() and (example.weights[gap] == 1).all()
            else:
                assert not null[gap].any(), "once a length is known, unused slots are no text"
        assert not example.nullable[example.observed].any()
        seen_null |= bool(null.any())
        seen_nullable |= bool(example.nullable.any())
    assert (seen_null, seen_nullable) == ((False, False) if isinstance(kind, RandomMasks) else (True, True))


def test_heavy_weights_are_cut_down(vocabulary: Vocabulary) -> None:
    cut = 0
    for seed in range(100):
        tokens = text(vocabulary, np.random.default_rng(seed), 40)
        whole, light = (
            Mixture(SpanGaps(), 0.5, heaviest)(tokens, vocabulary, 5, np.random.default_rng(seed))
            for heaviest in (float("inf"), 2.0)
        )
        assert (light.weights == whole.weights.clip(max=2)).all() and (light.canvas == whole.canvas).all()
        cut += bool((whole.weights > 2).any())
    assert cut > 20


@pytest.mark.parametrize("longest", [1, 3])
def test_gaps_do_not_touch_and_keep_to_their_length(vocabulary: Vocabulary, longest: int) -> None:
    corruption, rng = SpanGaps(most_gaps=9, longest=longest, share_masked=1.0, share_null=1.0), np.random.default_rng(0)
    most = 0
    for _ in range(300):
        example = corruption(text(vocabulary, rng, int(rng.integers(1, 20))), vocabulary, 30, rng)
        gaps = runs(~example.observed)
        assert all(gap.stop - gap.start <= longest for gap in gaps), "two gaps that touch would be longer"
        most = max(most, len(gaps))
    assert most > 4


def test_gaps_move_to_where_words_begin(vocabulary: Vocabulary) -> None:
    begins = vocabulary.starts_word.numpy()
    inside = np.flatnonzero(~begins & ~vocabulary.forbidden.numpy() & (np.arange(vocabulary.size) != vocabulary.null))
    tokens = np.array([np.flatnonzero(begins)[0], inside[0]] * 30)
    corruption, rng = SpanGaps(most_gaps=1, share_null=0.0, share_words=1.0), np.random.default_rng(0)
    lengths = set()
    for _ in range(300):
        (gap,) = runs(~corruption(tokens, vocabulary, 0, rng).observed)
        lengths.add(gap.stop - gap.start)
        if gap.stop - gap.start > 2:
            assert begins[tokens[gap.start]] and begins[tokens[gap.stop]]
    assert len(lengths) > 10


def test_a_text_without_content_is_left_as_it_is(vocabulary: Vocabulary) -> None:
    tokens, rng = np.array([vocabulary.bos, vocabulary.eos]), np.random.default_rng(0)
    for kind in (RandomMasks(), SpanGaps()):
        example = kind(tokens, vocabulary, 10, rng)
        assert (example.canvas == tokens).all() and not example.weights.any()


def test_left_to_right_scores_every_token_but_the_first(vocabulary: Vocabulary) -> None:
    tokens = text(vocabulary, np.random.default_rng(0), 10)
    example = LeftToRight()(tokens, vocabulary, 5, np.random.default_rng(0))
    assert (example.canvas == tokens).all() and (example.tokens == tokens).all()
    assert example.weights.tolist() == [0.0] + [1.0] * 11
    assert example.observed.tolist() == [True] + [False] * 11


@pytest.mark.parametrize(
    "wrong",
    [{"share_null": 1.5}, {"lookahead": -0.1}, {"steps": ()}, {"steps": (4, 0)}, {"most_gaps": 0}, {"longest": 0}],
    ids=str,
)
def test_wrong_shares_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        SpanGaps(**wrong)


def test_wrong_share_of_a_mixture_is_refused() -> None:
    with pytest.raises(UserError, match="share of texts with gaps is 2"):
        Mixture(share=2)


def test_whole_lines_are_gaps() -> None:
    """Of question, rationale and answer any but the question may be missing, each about as often."""
    arithmetic = world("arithmetic")
    text = "6 - 0 - 4 = ?\n6 - 4 = 2, 2 - 0 = 2\n2"
    ids = np.array([arithmetic.vocabulary.bos, *encode(arithmetic.tokenizer, text), arithmetic.vocabulary.eos])
    breaks = np.flatnonzero(arithmetic.vocabulary.breaks_line.numpy()[ids])
    rationale, answer = (int(breaks[0]) + 1, int(breaks[1])), (int(breaks[1]) + 1, len(ids) - 1)
    rng, lines = np.random.default_rng(0), LineGaps(share=1.0, gaps=SpanGaps(share_null=0.5))
    seen = [tuple(lines.places(ids, arithmetic.vocabulary, rng)) for _ in range(600)]
    assert set(seen) == {(rationale,), (answer,), (rationale, answer)}
    assert min(seen.count(places) for places in set(seen)) > 120  # 150 to 225 are expected of each
    example = lines(ids, arithmetic.vocabulary, 20, rng)
    assert not (example.canvas[: breaks[0]] != ids[: breaks[0]]).any() and example.weights[: breaks[0] + 1].sum() == 0
    short = LineGaps(share=1.0, gaps=SpanGaps(longest=4))
    assert {tuple(short.places(ids, arithmetic.vocabulary, rng)) for _ in range(50)} == {(answer,)}
    assert {tuple(LineGaps(given=2, share=1.0).places(ids, arithmetic.vocabulary, rng)) for _ in range(50)} == {
        (answer,)
    }
    elsewhere = LineGaps(share=0.0)
    assert any(tuple(elsewhere.places(ids, arithmetic.vocabulary, rng)) not in set(seen) for _ in range(20))
    with pytest.raises(UserError, match="given is -1"):
        LineGaps(given=-1)


SENTENCES = "Lily had a ball. Look! She ran.\nTom ran 3.5 miles... Was he tired? He was not"


def test_whole_sentences_are_gaps(tokenizer: PreTrainedTokenizerBase) -> None:
    vocabulary = Vocabulary.of(tokenizer)
    ids = np.array([vocabulary.bos, *encode(tokenizer, SENTENCES), vocabulary.eos])
    found = sentences(ids, vocabulary)
    texts = [decode(tokenizer, ids[start:stop].tolist(), continues=True) for start, stop in found]
    assert "".join(texts) == SENTENCES
    assert texts[1:] == [" Look!", " She ran.", "\nTom ran 3.5 miles...", " Was he tired?", " He was not"]
    corruption, rng = SentenceGaps(share=1.0, gaps=SpanGaps(share_null=0.0)), np.random.default_rng(0)
    edges, runs_of = {edge for pair in found for edge in pair}, list[int]()
    for _ in range(400):
        places = corruption.places(ids, vocabulary, rng)
        if not {edge for place in places for edge in place} <= edges:
            continue  # no sentence was chosen: gaps like any other
        assert all(stop - start <= 40 for start, stop in places)
        assert all(start > stop for (_, stop), (start, _) in pairwise(places)), "there is a token between two gaps"
        runs_of += [sum(start <= begin < stop for begin, _ in found) for start, stop in places]
    assert {*runs_of} == {1, 2, 3} and len(runs_of) > 400
    example = corruption(ids, vocabulary, 0, rng)
    assert (example.tokens == ids).all() and (example.weights[example.observed] == 0).all()
    short = SentenceGaps(longest=6, share=1.0)
    assert all(stop - start <= 64 for _ in range(50) for start, stop in short.places(ids, vocabulary, rng))
    assert sentences(ids[:0], vocabulary) == [] == sentences(ids[[0, -1]], vocabulary)
    with pytest.raises(UserError, match="share 2"):
        SentenceGaps(share=2)


def test_the_number_of_slots_is_independent_of_the_length(vocabulary: Vocabulary) -> None:
    """Of gaps with 12 slots as many are short as of gaps with 24, as far as they fit."""
    corruption = SpanGaps(most_gaps=1, longest=12, shortest=1, share_null=1.0, share_words=0.0, slots=[12, 24])
    rng, lengths = np.random.default_rng(0), {12: list[int](), 24: list[int]()}
    for _ in range(4000):
        example = corruption(text(vocabulary, rng, 40), vocabulary, 30, rng)
        (gap,) = runs(~example.observed)
        lengths[gap.stop - gap.start].append(int((example.tokens[gap] != vocabulary.null).sum()))
    few, many = (np.array(lengths[slots]) for slots in (12, 24))
    assert min(len(few), len(many)) > 1800
    assert abs(few.mean() - many.mean()) < 4 * few.std() / 1800**0.5  # four standard errors
    cramped = corruption(text(vocabulary, rng, 40), vocabulary, 0, rng)
    assert not (cramped.tokens == vocabulary.null).any()
    with pytest.raises(UserError, match="slots"):
        SpanGaps(slots=[0])


def test_positions_jump_in_a_few_places() -> None:
    """Tokens are as they were; positions rise by 1, or by up to 1 + longest at no more than `jumps` places."""
    text, rng, vocabulary = np.arange(40) % 30, np.random.default_rng(0), world("hmm").vocabulary
    jumping, seen = PositionJumps(LeftToRight(), jumps=2, longest=6), []
    for _ in range(200):
        example = jumping(text, vocabulary, 0, rng)
        assert example.positions is not None and (example.tokens == text).all()
        steps = np.diff(example.positions)
        assert steps.min() == 1 and (steps > 1).sum() <= 2 and (steps - 1).sum() + example.positions[0] <= 12
        seen.append(int((steps > 1).sum()))
    assert set(seen) == {0, 1, 2} and jumping.causal and not PositionJumps(RandomMasks()).causal
    middle = PositionJumps(FillInMiddle(rate=1.0), jumps=1, longest=6)(text, vocabulary, 20, rng)
    assert middle.positions is not None and len(middle.positions) == len(middle.tokens)
    with pytest.raises(UserError, match="jumps is 0"):
        PositionJumps(LeftToRight(), jumps=0)
